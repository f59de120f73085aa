"""How training images are varied: the random crop, RandAugment, mixup, erasing."""
