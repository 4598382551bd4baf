"""The work behind the routes that compute."""

import io


def count(rounds: int) -> str:
    """Adds up `rounds` numbers in pure Python, which holds the GIL, and returns the sum."""
    total = 0
    for number in range(rounds):
        total += number & 7
    return str(total)


def thumbnail(picture: bytes, width: int = 200) -> bytes:
    """Scales a picture to a width in pixels and returns it as a JPEG file. Pillow releases the GIL for most of it."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture))
    height = max(1, image.height * width // image.width)
    scaled = io.BytesIO()
    image.convert("RGB").resize((width, height)).save(scaled, "JPEG")
    return scaled.getvalue()
