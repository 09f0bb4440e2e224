"""From files to views: data sets by name, decoding, packs, splits, and batched random views."""
