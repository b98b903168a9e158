"""What runs beside a candidate: the program that loads and asks it, and the one that takes away
what both must not have. Each file is shown to the sandbox alone, so it imports nothing of ours."""
