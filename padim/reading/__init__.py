"""Image files, arrays and tensors to pixels; a reader of the method may skip it.

``images`` takes what a caller gives, ``folders`` says which files of a folder are images, and
``image_file`` reads one: by ``pillow_image``, or by ``tiff_page`` for what Pillow does not know.
Imports nothing of ``padim`` but ``config`` and ``errors``.
"""
