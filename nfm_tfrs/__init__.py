"""Neural Factorization Machines and interchangeable interaction blocks for TensorFlow Recommenders."""
