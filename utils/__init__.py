"""What surrounds the method: options, the run over classes, metrics, figures and result tables."""
