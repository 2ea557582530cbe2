"""Our intent that somebody holds something until a time: grants, their lifecycle, provisioning in the governed system, and
the clock that ends them."""
