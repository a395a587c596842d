"""Costs into the hooks of other systems; each library is imported only where it is used."""
