"""Float ONNX → static QDQ int8, judged by images that calibration has not seen."""
