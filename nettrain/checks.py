"""What a number may be: one check, one message."""


def check_range(name: str, value: float, interval: str, what: str = "") -> None:
    """Refuse a number outside an interval, as `check_range("keep", keep, "(0, 1]")`.

    interval  as mathematics writes it; a round bracket leaves its end out, "inf" may be an end
    what      a remark on the interval, which ends the message

    NaN lies in no interval. Raises ValueError.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if not (above and below):
        raise ValueError(f"{name}={value} is outside {interval}{what and ', ' + what}")
