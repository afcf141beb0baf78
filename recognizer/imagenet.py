"""Mean and standard deviation of ImageNet's pictures, by which many networks normalise."""

MEAN_RGB = (123.675, 116.28, 103.53)
"""Mean of red, green and blue, 0 to 255."""
STD_RGB = (58.395, 57.12, 57.375)
"""Standard deviation of red, green and blue, 0 to 255."""
