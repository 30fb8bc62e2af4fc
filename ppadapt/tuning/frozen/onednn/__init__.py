"""oneDNN's own operations on Paddle's tensors, on a CPU: the library that ships inside Paddle's wheel, called directly.

`library` is its C interface, `operations` are functions of tensors, `layers` are the parts of a transformer with
their gradients, and `support` says whether all that can be used here.
"""
