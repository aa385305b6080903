"""`fastmq doctor`: what on this machine may keep a broker from working well.

`findings` has the form of a finding, `machine` the checks of the process and kernel, `storage`
those of the disk, `network` ports and clock. Each check reads what the system tells and never
changes anything, but for a small file that is written to measure the disk. `command` prints.
"""

from fastmq.cli.doctor.command import doctor

__all__ = ["doctor"]
