"""Pictures of images: samples, views, attention."""
