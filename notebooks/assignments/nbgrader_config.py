"""nbgrader's settings for this course. A copy of this directory works wherever it is put: no path
is written down here."""

import os
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
names = "|".join(sorted(folder.name for folder in (here / "source").iterdir() if folder.is_dir()))

c = get_config()  # noqa: F821  nbgrader provides it
c.CourseDirectory.root = str(here)
c.CourseDirectory.course_id = "kdtutor"

# nbgrader calls the program `alembic` by its bare name: found also where the environment is not
# activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

# Seconds for one cell; then it is interrupted, counts as failed, and grading goes on. Every
# assignment as a whole runs in less than
# a minute on one core. The guard gives a submission one thread, the smoke budget, 4 GB of memory,
# 10 MB of printed text, and its own
# folder to write into.
c.Execute.timeout = 120
c.Execute.extra_arguments = [
    "--HistoryManager.hist_file=:memory:",
    "--IPKernelApp.log_level=ERROR",
    "--IPKernelApp.exec_lines=__import__('kdtutor.course.guard', "
    "fromlist=['guard']).start(gigabytes=4)",
]

# Without these two lines a warning on stderr, of any library, costs all points of its cell.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = ".*"

# A test cell that a student deleted is put back.
c.OverwriteCells.add_missing_cells = True

# zip_collect: STUDENT_assignment.ipynb, Moodle's
# "Name_123_assignsubmission_file_assignment.ipynb", or STUDENT.zip with the notebook.
c.FileNameCollectorPlugin.named_regexp = (
    rf".*[\\/]extracted[\\/](?P<student_id>[^\\/_]+)(?:[\\/_].*)?[\\/_](?P<file_id>{names})\.ipynb$"
)
