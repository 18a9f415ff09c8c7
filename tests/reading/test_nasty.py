"""268 odd, fuzzed and hostile TIFFs: each is read rightly or refused by name, fast and small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile

from islet_imaging.errors import ImageReadError
from islet_imaging.reading import read_image

_SCRIPT = """
import json, sys, time, warnings
from pathlib import Path
warnings.simplefilter("error")
from islet_imaging.errors import IsletImagingError
from islet_imaging.reading import read_image
import tifffile, imagecodecs
def peak_kib():
    # of this process alone: getrusage would count what the parent had in memory
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(v.split()[1]) for v in lines if v.startswith("VmHWM")), 0)
out = []
for file in sorted(p for p in Path(sys.argv[1]).rglob("*") if p.is_file()):
    start = time.perf_counter()
    cpu = time.process_time()
    try:
        image = read_image(file)
        for name in image.channel_names:
            image.channel(name)
        what, text = "read", ""
    except IsletImagingError as error:
        what, text = "refused", str(error)
    except BaseException as error:
        what, text = "raw", repr(error)
    out.append([str(file), what, text, time.process_time() - cpu,
                peak_kib()])
print(json.dumps(out))
"""


def test_every_file_is_read_or_refused(data_dir: Path) -> None:
    folder = data_dir / "nasty"
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == "", "a library printed"
    results = json.loads(done.stdout)
    assert len(results) >= 268
    assert [r for r in results if r[1] == "raw"] == []
    for file, what, text, seconds, peak_kib in results:
        assert seconds < 2, file
        assert peak_kib < 500 * 1024, file
        if what == "refused":
            assert Path(file).name in text
    assert sum(r[1] == "read" for r in results) > 150


def test_what_is_read_is_what_the_library_decodes(data_dir: Path) -> None:
    """Our choice of strips and tiles against tifffile's whole pages."""
    checked = 0
    files = [*(data_dir / "nasty").rglob("*.tif"), *(data_dir / "nasty").rglob("*.tiff")]
    for file in sorted(files):
        try:
            image = read_image(file)
            planes = [image.channel(n) for n in image.channel_names]
        except ImageReadError:
            continue
        with tifffile.TiffFile(file) as tif:
            page = tif.series[0][0]
            assert page is not None
            whole = page.asarray()
            if page.axes == "YXS":
                whole = np.moveaxis(whole, -1, 0)
        whole = whole.reshape(-1, *image.shape)
        for plane, expected in zip(planes, whole, strict=False):
            np.testing.assert_array_equal(plane, expected, err_msg=str(file))
        checked += 1
    assert checked > 150
