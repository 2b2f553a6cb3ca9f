"""The paper's method from start to end on CIFAR-10."""
