"""The programs that run inside the sandbox. Each file is mounted there alone, so it imports
nothing of this package."""
