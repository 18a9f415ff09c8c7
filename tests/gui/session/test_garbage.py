"""Collections of garbage beside a window: without what napari is made of, never without layers."""

import gc

import numpy as np
import pytest

pytest.importorskip("napari", reason="the GUI tests need napari: pip install '.[all]'")
pytest.importorskip("pytestqt", reason="the GUI tests need pytest-qt")

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("default"),  # napari, vispy and Qt deprecate among themselves
]


@pytest.fixture
def leave_out():
    """The function as at the start of a window."""
    from napari_islet_imaging.session.garbage import leave_modules_out

    leave_modules_out.cache_clear()
    gc.unfreeze()
    yield leave_modules_out
    gc.unfreeze()


def test_modules_are_left_out_once(viewer, leave_out):
    leave_out()
    left_out = gc.get_freeze_count()
    assert left_out > 100_000
    later = [object(), [1], {2: 3}]
    leave_out()
    assert gc.get_freeze_count() == left_out
    assert gc.is_tracked(later)


def test_layers_are_not_left_out_since_they_must_be_freed(viewer, leave_out):
    viewer.add_image(np.zeros((8, 8)))
    leave_out()
    assert gc.get_freeze_count() == 0
