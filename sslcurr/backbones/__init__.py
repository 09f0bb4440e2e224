"""Backbones by their timm name, and their checkpoints."""
