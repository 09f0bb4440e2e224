"""What commands found: typed documents, and the tables and charts that are made of them."""
