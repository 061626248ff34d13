"""Tasks of one's own: the scikit-learn classifier, adapted tasks, the choice of an init, and export to ONNX."""
