"""Export of networks that take classes on the device."""
