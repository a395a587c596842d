"""Dense 2-D correlation of one fp32 image with one small square filter, as tuned by Kernel Tuner and KTT.

out[y, x] = Σᵢⱼ in[y + i, x + j]·F[i, j], no flipping; the image is padded on the host. Each thread computes TX × TY outputs,
BX and BY apart. Source of the loop nest: AutoTuningAssociation/benchmark_hub, MiloLurati/AutoTuning_AMD_vs_Nvidia_GPUs and
HiPerCoRe/KTT (convolution_2d.md of the specification this project was given). What the compilers did is described too: loads of
equal addresses are merged, but not under bounds tests (nvcc 13: 450 loads in place of 285 for a 1 × 2 tile of 48 × 4 threads);
the filter is a constant operand of the multiply-add, and the staging loop is unrolled by four.
"""

from contextlib import contextmanager, nullcontext

from costmodel import kernel
from costmodel.cost import NSIGHT
from costmodel.dtypes import f32
from costmodel.ir import ceil_div, minimum

UNROLL = 4
"""Of the staging loop along a row, whose trip count differs between threads."""
BANKS = 32


@kernel(static=("SHMEM", "PAD", "READ_ONLY", "ALIGNED"), name="convolution_2d")
def convolution_2d(k, *, NX, NY, BX, BY, TX, TY, F=15, SHMEM=1, PAD=0, READ_ONLY=0, ALIGNED=0):
    """SHMEM stages the block's part of the image; PAD spreads its rows over the banks; ALIGNED has no bounds tests."""
    halo = F - 1
    image = k.buffer("image", (NY + halo, NX + halo), f32, read_only=bool(READ_ONLY))
    out = k.buffer("out", (NY, NX), f32)
    acc = k.register("acc", (TY, TX), f32)
    k.constant("filter", (F, F), f32)
    if ALIGNED:
        k.require(NX % (BX * TX) == 0, NY % (BY * TY) == 0)
    rows, width = BY * TY + halo, BX * TX + halo

    def inside(*conditions):
        return nullcontext() if ALIGNED else k.when(*conditions)

    with k.blocks(ceil_div(NX, BX * TX), ceil_div(NY, BY * TY)) as (bx, by), k.threads(BX, BY) as (u, v):
        x0, y0 = bx * BX * TX, by * BY * TY
        if SHMEM:
            # a row is padded so that the next thread row starts on the bank after the last one's
            pad = (BANKS - (width - BX) % BANKS) % BANKS * minimum(BX % BANKS, 1) if PAD else 0
            tile = k.shared("tile", (rows, width + pad), f32)
            whole, rest = width // BX, width % BX

            def stage(row, column):
                with inside(y0 + row < NY + halo, x0 + column < NX + halo):
                    k.copy(image[y0 + row, x0 + column], tile[row, column], "stage")

            with k.serial(ceil_div(rows, BY), "i") as i, k.when(v + i * BY < rows):
                row, grouped = v + i * BY, whole - whole % UNROLL
                with k.serial(whole, "j", unroll=UNROLL) as j, k.when(j < grouped):
                    stage(row, u + j * BX)
                # where the lanes with one column more can make another group of it, the warp runs both ways after each other
                apart = whole % UNROLL // (UNROLL - 1)
                with k.serial(UNROLL, "j") as j, k.when(apart < 1, u + (grouped + j) * BX < width):
                    stage(row, u + (grouped + j) * BX)
                with k.when(apart > 0, u < rest), k.unrolled(UNROLL, "j") as j:
                    stage(row, u + (grouped + j) * BX)
                with k.when(apart > 0, u >= rest), k.serial(UNROLL - 1, "j") as j:
                    stage(row, u + (grouped + j) * BX)
            k.barrier()
        merged = (_own, _beyond) if SHMEM or ALIGNED else (_every,)  # loads under different tests are not merged
        for down in merged:
            for across in merged:
                with down(k, TY, BY, F, "r") as (yi, i), across(k, TX, BX, F, "c") as (xi, j):
                    y, x = v + yi, u + xi
                    if SHMEM:
                        k.load(tile[y + i, x + j], name="read tile")
                    else:
                        with inside(y0 + y < NY + halo, x0 + x < NX + halo):  # as written: the taps are not in the test
                            k.load(image[y0 + y + i, x0 + x + j], name="read image")
        with k.unrolled(F * F, "tap"), k.unrolled(TY, "yi") as yi, k.unrolled(TX, "xi") as xi:
            k.do("multiply", loads=acc[yi, xi], work=k.fma(f32), stores=acc[yi, xi])
        with k.unrolled(TY, "yi") as yi, k.unrolled(TX, "xi") as xi:
            y, x = y0 + v + yi * BY, x0 + u + xi * BX
            with inside(y < NY, x < NX):
                k.store(out[y, x], name="store")


@contextmanager
def _every(k, tiles, step, F, name):
    """Tile offset and tap of each product."""
    with k.unrolled(tiles, f"{name}_tile") as t, k.unrolled(F, name) as i:
        yield t * step, i


@contextmanager
def _own(k, tiles, step, F, name):
    """Tile offset and tap, without the taps that the next tile has too."""
    with k.unrolled(tiles, f"{name}_tile") as t, k.unrolled(minimum(F, step), name) as i:
        yield t * step, i


@contextmanager
def _beyond(k, tiles, step, F, name):
    """Those of the last tile that reach beyond its step."""
    with k.unrolled(F, name) as i, k.when(i >= step):
        yield (tiles - 1) * step, i


_THREADS = {"BX": [16, 32, 64, 128, 256], "BY": [1, 2, 4, 8, 16], "TX": [1, 2, 3, 4], "TY": [1, 2, 3, 4]}
SPACE = {"convolution_2d": {"NX": 4096, "NY": 4096, **_THREADS, "SHMEM": [0, 1], "PAD": [0, 1], "READ_ONLY": 0, "ALIGNED": 0}}


def _columns(bx, by, tx, ty, nx, ny):
    aligned = f"=({nx} % ({bx} * {tx}) == 0) & ({ny} % ({by} * {ty}) == 0)"
    return {"BX": bx, "BY": by, "TX": tx, "TY": ty, "NX": nx, "NY": ny, "ALIGNED": aligned}


_TUNER = _columns("block_size_x", "block_size_y", "tile_size_x", "tile_size_y", "image_width", "image_height")
_TUNER |= {"F": "filter_width", "PAD": "use_padding", "READ_ONLY": "read_only"}
_KTT = _columns("BLOCK_SIZE_X", "BLOCK_SIZE_Y", "TILE_SIZE_X", "TILE_SIZE_Y", "IMAGE_WIDTH", "IMAGE_HEIGHT")
_KTT |= {"PAD": 0, "READ_ONLY": "READ_ONLY"}  # the source tests a macro that the tuner never defines: nothing is padded
DATASETS = {
    "convolution": {"description": convolution_2d, "columns": {**_TUNER, "SHMEM": 1}},
    "convolution_milo": {"description": convolution_2d, "columns": {**_TUNER, "SHMEM": "use_shmem"}},
    "convolution_ktt": {"description": convolution_2d, "columns": {**_KTT, "SHMEM": 1}, "counters": NSIGHT},
}


def _correlation(tensors, _sizes):
    from torch.nn.functional import conv2d

    return {"out": conv2d(tensors["image"][None, None], tensors["filter"][None, None])[0, 0]}


_MEASURED = {
    "NX": 4096, "NY": 4096, "BX": [8, 16, 32, 64], "BY": [4, 8], "TX": [1, 2, 4], "TY": [1, 2], "SHMEM": [0, 1], "PAD": 0,
    "READ_ONLY": 0, "ALIGNED": 1,
}  # fmt: skip
CODE = {"convolution_2d": {"cuda": "convolution.cu", "arguments": (), "reference": _correlation, "space": _MEASURED}}
