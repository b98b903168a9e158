"""The programs that run inside the sandbox. Only these files are mounted there, so they import
nothing from this package."""
