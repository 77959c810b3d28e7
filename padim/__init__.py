"""PaDiM, a Patch Distribution Modeling framework (Defard et al., arXiv 2011.08785): the method.

One module a step, data going one way:

    backbones     images           -> taps, one feature map a layer
    embedding     taps             -> patch embeddings (B, P, d)
    gaussian      patch embeddings -> Mahalanobis distances (B, P)
    anomaly_map   distances        -> anomaly map (B, crop, crop) and image score
    calibration   what unseen normal images score, so thresholds and p-values
    model         all of it as one object: fit, score, save, load

Beside them: ``config`` (a model's choices), ``factors`` (the algebra of the Gaussians), ``blocks``
(work in blocks that fit the memory), ``model_file`` (a model on disk), ``onnx_graph`` (as ONNX).

Symbols: N training images, B batch, d channels kept, H x W grid, P = H * W positions.
"""
