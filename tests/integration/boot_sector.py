"""The smallest guest: a boot sector that says one sentence on the first serial port and halts."""

from __future__ import annotations

LOADED_AT = 0x7C00  # where a BIOS puts the boot sector
SECTOR_BYTES = 512
TEXT_OFFSET = 0x40

# 16-bit code. All jumps are relative, so that the pieces can be put one behind the other.
BEGIN = bytes.fromhex("31c0 8ed8 8ec0 fc")  # ds = es = 0, count upwards
OVERWRITE = bytes.fromhex(  # INT 13h: write the boot sector to the second sector of the boot drive
    "b80103 bb007c b90200 b600 cd13"
)
SAY = bytes.fromhex(
    f"be {(LOADED_AT + TEXT_OFFSET).to_bytes(2, 'little').hex()}"  # si = text
    "ac 84c0 7412"  # next: al = text; end of it: go to halt
    "88c4 ba fd03"  # keep it in ah; line status register of the port at 0x3F8
    "ec a820 74fb"  # until the transmitter is empty
    "88e0 ba f803 ee"  # send
    "ebe9"  # next
    "fa f4 ebfd"  # halt
)


def boot_sector(text: str, *, overwrites: bool = False) -> bytes:
    """Return a bootable sector that prints `text`, after writing to the second sector if told so."""
    code = BEGIN + (OVERWRITE if overwrites else b"") + SAY
    sector = code.ljust(TEXT_OFFSET, b"\0") + text.encode() + b"\r\n\0"
    return sector.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"
