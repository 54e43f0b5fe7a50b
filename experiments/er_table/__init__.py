"""SimCLR, SwAV, BYOL and DINO with and without entropy, at two batch sizes."""
