"""Names for files that are not images we decode, and what to do about each."""

from __future__ import annotations

from vitsmith.files.contents import mistaken_text, short_text

_SAVE = "save it as PNG or JPEG"
_DEVELOP = "a camera's raw file, which has to be developed"

# (offset, bytes there, name of the kind in messages, what to do). A kind with several forms has several rows.
_MARKS = (
    (0, b"\xff\x0a", "a JPEG XL image", _SAVE),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image", _SAVE),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image", _SAVE),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _SAVE),
    (0, b"8BPS", "a Photoshop file (PSD)", _SAVE),
    (0, b"gimp xcf", "a GIMP file (XCF)", _SAVE),
    (0, b"\0\0\1\0", "a Windows icon", _SAVE),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", "map it to 8 bits and save it as PNG"),
    (0, b"#?RADIANCE", "a Radiance HDR image", "map it to 8 bits and save it as PNG"),
    (0, b"SIMPLE  =", "a FITS file", "map it to 8 bits and save it as PNG"),
    (0, b"DDS ", "a DDS texture", _SAVE),
    (0, b"%!PS", "a PostScript file", "render it, and save it as PNG"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file", "render it, and save it as PNG"),
    (0, b"%PDF", "a PDF document", "render its pages as PNG"),
    (8, b"CR\2", _DEVELOP, "export it as JPEG"),
    (4, b"ftypcrx ", _DEVELOP, "export it as JPEG"),
    (0, b"IIRO", _DEVELOP, "export it as JPEG"),
    (0, b"IIRS", _DEVELOP, "export it as JPEG"),
    (0, b"MMOR", _DEVELOP, "export it as JPEG"),
    (0, b"IIU\0", _DEVELOP, "export it as JPEG"),
    (0, b"FUJIFILMCCD-RAW", _DEVELOP, "export it as JPEG"),
    (0, b"FOVb", _DEVELOP, "export it as JPEG"),
    (4, b"ftypqt", "a video", "give frames of it as images"),
    (4, b"ftypmp4", "a video", "give frames of it as images"),
    (4, b"ftypiso", "a video", "give frames of it as images"),
    (4, b"ftypavc1", "a video", "give frames of it as images"),
    (4, b"ftypM4V", "a video", "give frames of it as images"),
    (4, b"ftypmmp4", "a video", "give frames of it as images"),
    (4, b"ftyp3gp", "a video", "give frames of it as images"),
    (4, b"moov", "a video", "give frames of it as images"),
    (0, b"\x1a\x45\xdf\xa3", "a video", "give frames of it as images"),
    (8, b"AVI LIST", "a video", "give frames of it as images"),
    (0, b"\0\0\1\xba", "a video", "give frames of it as images"),
    (0, b"FLV\1", "a video", "give frames of it as images"),
    (0, b"\0\5\x16\7", "a companion file of macOS (._), which holds no pixels", "delete it"),
    (128, b"DICM", "a DICOM file", "map it to 8 bits and save it as PNG"),
    (0, b"\x89HDF", "an HDF5 file", "take the images out of it"),
    (0, b"\x93NUMPY", "a NumPy array", "save it as PNG"),
    (0, b"PK\3\4", "a ZIP archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it"),
    (0, b"Rar!", "a RAR archive", "unpack it"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (257, b"ustar", "a tar archive", "unpack it"),
    (0, b"\xd0\xcf\x11\xe0", "an old Office file or Thumbs.db", "delete it"),
)
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# TIFF tags of camera raw files that are TIFFs too; Pillow would give their thumbnail.
_RAW_TAGS = {50706: "DNGVersion", 33421: "CFARepeatPatternDim", 37398: "TIFF/EP standard"}
_REDUCED = 254  # NewSubfileType; bit 0: a smaller copy of another image in the file


def is_heic(data: bytes) -> bool:
    """Whether bytes are a HEIC or HEIF image; AVIF has the same container."""
    if data[4:8] != b"ftyp":
        return False
    brands = data[8 : 8 + max(int.from_bytes(data[:4], "big") - 8, 4)][:256]
    if b"avif" in brands or b"avis" in brands:
        return False
    return any(brand in brands for brand in _HEIC_BRANDS)


def name_kind(data: bytes) -> str:
    """Describe bytes that no decoder accepts, as 'is a PDF document; render its pages as PNG'."""
    if is_heic(data):
        return "is a HEIC image, which is not supported; save it as JPEG"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() in (b"<?xml", b"<svg ") and b"<svg" in data[:4096]:
        return "is an SVG drawing, not pixels; render it, and save it as PNG"
    if (text := mistaken_text(data[:4096])) is not None:
        return text.told
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "is markup (XML or HTML), not pixels; replace the image"
    for at, mark, what, remedy in _MARKS:
        if data[at : at + len(mark)] == mark:
            return f"is {what}; {remedy}"
    if not data[:4096].strip(b"\0"):
        return "begins with zeros only, like a file that was not completely written; copy or download it again"
    if said := short_text(data[:4096], len(data)):
        return f"is not an image but text that says {said!r}; replace it"
    return f"is not an image that is supported (it begins with {data[:8]!r})"


def is_raw(tags: dict[int, object]) -> bool:
    """Whether a TIFF is a camera's raw file, by the tags of its first picture."""
    kind = tags.get(_REDUCED)
    return any(tag in tags for tag in _RAW_TAGS) or (isinstance(kind, int) and bool(kind & 1))
