// Runs kernels compiled with cuda_on_cpu.h: fibers for the threads of a block, and what they read and write.
//
// An access is told from others of a warp by where it stands in the code and how often its thread has been there: equal in both,
// lanes make one request. Errors, by name: a barrier or shuffle that some threads do not reach, memory outside of all buffers,
// shared memory that nobody has written, and words that two threads touch between two barriers, one of them writing.
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda_on_cpu.h"

__constant__ dim3 threadIdx, blockIdx, blockDim, gridDim;
extern char __start_constants[] __attribute__((visibility("hidden")));
extern char __stop_constants[] __attribute__((visibility("hidden")));

struct Totals { int64_t executions, requested_bytes, requests, sectors, lines, wavefronts; };

namespace {

constexpr int LANES = 32, SECTOR = 32, LINE = 128, BANKS = 32, WORD = 4;
constexpr size_t STACK = 64 << 10;
enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };

struct Fiber {
    ucontext_t context;
    dim3 index;
    State state;
    int barriers, shuffles;
    std::unordered_map<uintptr_t, int> visits;
    std::set<std::pair<uintptr_t, int>> loaded;
};
struct Event { uintptr_t code; int warp, visit, lane; uintptr_t address; int bytes; bool store; int buffer; };
struct Word { int writer = -1, written = -1, reader = -1, read = -1; bool readers = false; };

std::vector<Fiber> fibers;
std::vector<char> stacks;
std::vector<float> values;  // two for each thread: of this shuffle and the next
std::vector<Event> events;
std::unordered_map<uintptr_t, Word> words;
ucontext_t scheduler;
int current = -1, shuffled = 0;
bool merging, lenient;
std::string problem;

struct { const uintptr_t* buffers; int count; Totals* totals; uintptr_t dynamic, dynamic_end, dynamic_limit; } memory;
void (*entry)(void**);
void** arguments;

void complain(const std::string& what) {
    if (problem.empty()) {
        const dim3 &t = fibers[current].index, &b = blockIdx;
        char where[160];
        snprintf(where, sizeof where, " (block %u %u %u, thread %u %u %u)", b.x, b.y, b.z, t.x, t.y, t.z);
        problem = what + where;
    }
}

void start() {
    entry(arguments);
    fibers[current].state = DONE;
}

void wait(State state) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    swapcontext(&fiber.context, &scheduler);
}

void check_word(uintptr_t address, bool store) {
    Word& w = words[address];
    const int now = fibers[current].barriers;
    if (!store && w.writer < 0 && !lenient) complain("shared memory is read that nobody has written");
    if (w.written == now && w.writer != current) complain("a race: another thread has written this since the last barrier");
    if (store && w.read == now && (w.readers || w.reader != current)) complain("a race: another thread reads this before the next barrier");
    if (store) w.writer = current, w.written = now;
    else w.readers = w.read == now && (w.readers || w.reader != current), w.reader = current, w.read = now;
}

void access(const void* place, int bytes, bool store, void* code) {
    if (current < 0) return;
    const auto address = reinterpret_cast<uintptr_t>(place);
    const auto stack = reinterpret_cast<uintptr_t>(stacks.data());
    if (address - stack < stacks.size()) return;
    if (place >= __start_constants && place < __stop_constants) return;
    Fiber& fiber = fibers[current];
    int buffer = -1;
    if (address >= memory.buffers[0] && address < memory.buffers[2 * memory.count]) {
        for (int b = 0; b < memory.count; ++b)
            if (address >= memory.buffers[2 * b] && address + bytes <= memory.buffers[2 * b + 1]) buffer = b;
        if (buffer < 0) return complain("an access lies outside of all buffers");
    } else {
        buffer = memory.count;
        if (address >= memory.dynamic_end && address < memory.dynamic_limit) return complain("dynamic shared memory ends earlier");
        for (int b = 0; b < bytes; b += WORD) check_word(address + b, store);
    }
    if (address % bytes) return complain("an address is not aligned");
    if (merging && !store && !fiber.loaded.insert({address, bytes}).second) return;
    const auto where = reinterpret_cast<uintptr_t>(code);
    events.push_back({where, current / LANES, fiber.visits[where]++, current % LANES, address, bytes, store, buffer});
}

int distinct(const std::vector<Event>& lanes, int cell) {
    std::set<uintptr_t> cells;
    for (const Event& e : lanes)
        for (uintptr_t c = e.address / cell; c <= (e.address + e.bytes - 1) / cell; ++c) cells.insert(c);
    return int(cells.size());
}

int wavefronts(const std::vector<Event>& lanes) {
    const int each = LINE / std::max(lanes[0].bytes, WORD);
    std::map<int, std::map<uintptr_t, std::set<uintptr_t>>> passes;
    for (const Event& e : lanes)
        for (int b = 0; b < e.bytes; b += WORD) passes[e.lane / each][(e.address + b) / WORD % BANKS].insert((e.address + b) / WORD);
    size_t total = 0;
    for (const auto& [_, banks] : passes) {
        size_t most = 0;
        for (const auto& [bank, in_bank] : banks) most = std::max(most, in_bank.size());
        total += most;
    }
    return int(total);
}

void close_block() {
    std::map<std::tuple<uintptr_t, int, int>, std::vector<Event>> requests;
    for (const Event& e : events) requests[{e.code, e.warp, e.visit}].push_back(e);
    for (const auto& [_, lanes] : requests) {
        Totals& t = memory.totals[2 * lanes[0].buffer + lanes[0].store];
        t.executions += lanes.size();
        t.requested_bytes += int64_t(lanes.size()) * lanes[0].bytes;
        t.requests += 1;
        t.sectors += distinct(lanes, SECTOR);
        t.lines += distinct(lanes, LINE);
        if (lanes[0].buffer == memory.count) t.wavefronts += wavefronts(lanes);
    }
    events.clear();
    words.clear();
}

// lets fibers run until all are done; `backwards` changes which thread comes first
void run_block(int threads, bool backwards) {
    for (int t = 0; t < threads; ++t) {
        Fiber& f = fibers[t];
        f.state = READY, f.barriers = f.shuffles = 0;
        f.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
        f.visits.clear(), f.loaded.clear();
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = stacks.data() + size_t(t) * STACK;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = &scheduler;
        makecontext(&f.context, start, 0);
    }
    while (problem.empty()) {
        bool ran = false;
        for (int n = 0; n < threads; ++n) {
            const int t = backwards ? threads - 1 - n : n;
            if (fibers[t].state != READY) continue;
            current = t, threadIdx = fibers[t].index, ran = true;
            swapcontext(&scheduler, &fibers[t].context);
        }
        const auto all = [&](int from, int to, State s) {
            return std::all_of(fibers.begin() + from, fibers.begin() + to, [s](const Fiber& f) { return f.state == s; });
        };
        if (all(0, threads, DONE)) break;
        if (all(0, threads, AT_BARRIER)) {
            for (int t = 0; t < threads; ++t) fibers[t].state = READY, fibers[t].barriers += 1, fibers[t].loaded.clear();
            continue;
        }
        for (int w = 0; w < threads; w += LANES)
            if (w + LANES <= threads && all(w, w + LANES, AT_SHUFFLE)) {
                for (int t = w; t < w + LANES; ++t) fibers[t].state = READY;
                shuffled += 1, ran = true;
            }
        if (!ran) complain("some threads wait at a barrier or shuffle that others do not reach");
    }
    current = -1;
}

}  // namespace

void __syncthreads() { wait(AT_BARRIER); }
int lane_of_warp() { return current % LANES; }
float exchanged(float own, int lane) {
    const int turn = fibers[current].shuffles++ % 2, warp = current / LANES;
    values[2 * current + turn] = own;
    wait(AT_SHUFFLE);
    return values[2 * (warp * LANES + lane) + turn];
}
void count_atomic(const void* place, int bytes) { access(place, bytes, true, __builtin_return_address(0)); }

// Runs a grid. `buffers` are first and one past last address of each global buffer in ascending order, then the end of the arena
// they lie in; `unwritten`: shared memory may be read that nobody has written; `totals` has two rows (loads, stores) for each of them and for shared memory. Returns what is wrong, or nothing.
extern "C" const char* run_grid(void (*kernel)(void**), void** given, const unsigned* grid, const unsigned* block, int backwards, int merge, int unwritten,
                                const uintptr_t* buffers, int count, void* dynamic, size_t bytes, size_t capacity, Totals* totals, int* shuffles) {
    const int threads = int(block[0] * block[1] * block[2]);
    entry = kernel, arguments = given, merging = merge, lenient = unwritten;
    const auto first = reinterpret_cast<uintptr_t>(dynamic);
    memory = {buffers, count, totals, first, first + bytes, first + capacity};
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    fibers = std::vector<Fiber>(threads), stacks.resize(size_t(threads) * STACK), values.assign(2 * threads, 0.0f);
    events.clear(), problem.clear(), shuffled = 0;
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0] && problem.empty(); ++x) {
                blockIdx = {x, y, z};
                run_block(threads, backwards);
                close_block();
            }
    *shuffles = shuffled;
    return problem.c_str();
}

#define HOOKS(n)                                                                                              \
    extern "C" void __tsan_read##n(void* p) { access(p, n, false, __builtin_return_address(0)); }             \
    extern "C" void __tsan_write##n(void* p) { access(p, n, true, __builtin_return_address(0)); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
extern "C" void __tsan_read_range(void* p, unsigned long n) { access(p, int(n), false, __builtin_return_address(0)); }
extern "C" void __tsan_write_range(void* p, unsigned long n) { access(p, int(n), true, __builtin_return_address(0)); }
extern "C" void __tsan_init() {}
