"""The programs that run inside the sandbox. They import nothing from this package, which is not
visible there."""
