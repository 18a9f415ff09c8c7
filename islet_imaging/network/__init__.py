"""Trained networks: how they are built, trained, judged, exported and run.

The idea: one small U-Net (``architecture``) and one resumable training loop (``training``) serve
both networks of the project.  Running a network needs only numpy, SciPy and ONNX Runtime
(``inference``, ``engine``, ``weights``); training needs the extra ``train`` (torch).  Nothing is
imported here, so that ``import islet_imaging`` stays quick.
"""
