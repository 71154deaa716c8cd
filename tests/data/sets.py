"""Data sets that are ready for use."""


def ready(data):
    """The data set, prepared and split."""
    data.prepare_data()
    data.setup()
    return data
