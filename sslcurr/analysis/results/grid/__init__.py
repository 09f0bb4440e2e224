"""The document, tables and charts of the grid of shares of images and labels."""
