"""Vision tasks: how outputs become results, which metric judges them, how they are drawn."""
