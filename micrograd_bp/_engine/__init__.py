"""What the table and the node need use: operators, special functions, trees, files, the accelerator."""
