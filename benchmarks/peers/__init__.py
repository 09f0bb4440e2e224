"""Training loops as users of other projects would write them, to be timed beside ours."""
