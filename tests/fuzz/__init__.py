"""Whatever comes in ends in a right result, or in one line that says what is wrong and one that says what to do.

`python -m tests.fuzz --cases 100000` runs as many cases in processes of their own, which are watched: a case that
raises anything but an error of the project, that takes longer than ten seconds, or more than a gigabyte, is a failure.
`--only KIND --number N` runs one case again.
"""
