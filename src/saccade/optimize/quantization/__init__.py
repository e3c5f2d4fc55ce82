"""int8 after training: recipes, the repair ladder, measured sensitivity, one file per quantizer."""
