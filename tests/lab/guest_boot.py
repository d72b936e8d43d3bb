"""The boot sector of the lab's guest: 16-bit x86 code for a PC BIOS that proves the bytes of its disks.

It generates a CRC-32 table, reads every sector of disk 0x80 and disk 0x81 through INT 13h extended reads
(AH=42h, 32 KiB each), compares their number (AH=48h) and their CRC-32 (polynomial 0xEDB88320, as in zlib)
with the values in its own sector, prints a line on COM1 (115200 8N1) and halts. All in real mode.

Memory: 0x7C00 this sector, stack below it; 0x8000 the CRC table (1 KiB); 0x9000 the answer of AH=48h; 0x20000
the buffer of the reads. Source of the disk calls: "BIOS Enhanced Disk Drive Specification" 3.0.
"""

from __future__ import annotations

import struct

SECTOR = 512
BANNER = "VMIMPORT-GUEST"

_LOAD_ADDRESS = 0x7C00
_SIGNATURE = b"\x55\xaa"
_CODE_END = 446  # where a partition table would begin; there is none, and nothing may look like one

# Bytes in hex; `>name` a displacement of one byte, `>>name` of two, `=name` an address, `$name` given bytes.
_LISTING = """
start:      FA                          ; cli
            31 C0                       ; xor ax, ax
            8E D8                       ; mov ds, ax
            8E C0                       ; mov es, ax
            8E D0                       ; mov ss, ax
            BC 00 7C                    ; mov sp, 0x7C00
            FB                          ; sti
            FC                          ; cld
            EA =serial 00 00            ; jmp 0000:serial       some BIOSes start at 07C0:0000

serial:     BA FB 03                    ; mov dx, 0x3FB         line control
            B0 83                       ; mov al, 0x83          8N1, divisor latch open
            EE                          ; out dx, al
            BA F8 03                    ; mov dx, 0x3F8         divisor, low byte
            B0 01                       ; mov al, 1             115200 baud
            EE                          ; out dx, al
            42                          ; inc dx                divisor, high byte
            B0 00                       ; mov al, 0
            EE                          ; out dx, al
            BA FB 03                    ; mov dx, 0x3FB
            B0 03                       ; mov al, 3             latch closed
            EE                          ; out dx, al

            BF 00 80                    ; mov di, 0x8000        table[i]: i shifted through the polynomial
            31 DB                       ; xor bx, bx
entry:      66 0F B7 C3                 ; movzx eax, bx
            B9 08 00                    ; mov cx, 8
bit:        66 D1 E8                    ; shr eax, 1
            73 >no_carry                ; jnc no_carry
            66 35 20 83 B8 ED           ; xor eax, 0xEDB88320
no_carry:   E2 >bit                     ; loop bit
            66 AB                       ; stosd
            43                          ; inc bx
            80 FF 01                    ; cmp bh, 1             256 entries
            75 >entry                   ; jne entry

            BD =disk0                   ; mov bp, disk0
            E8 >>check                  ; call check
            BD =disk1                   ; mov bp, disk1
            E8 >>check                  ; call check

            BE =banner                  ; mov si, banner
            E8 >>puts                   ; call puts
            BE =bad                     ; mov si, bad
            66 A1 =expected0            ; mov eax, [expected0]
            66 3B 06 =measured0         ; cmp eax, [measured0]
            75 >verdict                 ; jne verdict
            66 A1 =expected1            ; mov eax, [expected1]
            66 3B 06 =measured1         ; cmp eax, [measured1]
            75 >verdict                 ; jne verdict
            BE =ok                      ; mov si, ok
verdict:    E8 >>puts                   ; call puts
            66 8B 1E =measured0         ; mov ebx, [measured0]
            E8 >>puthex                 ; call puthex
            66 8B 1E =measured1         ; mov ebx, [measured1]
            E8 >>puthex                 ; call puthex
            B0 0A                       ; mov al, 10
            E8 >>putc                   ; call putc
halt:       FA                          ; cli
            F4                          ; hlt
            EB >halt                    ; jmp halt

; check: BP -> sectors to read (0), expected (4), measured (8), drive (12), sectors of the disk (13). Measured
; stays 0 when a read fails or the disk is not as long as it should be.
check:      C7 06 00 90 1E 00           ; mov word [0x9000], 30 size of the answer
            BE 00 90                    ; mov si, 0x9000
            B4 48                       ; mov ah, 0x48          get drive parameters
            8A 56 0C                    ; mov dl, [bp+12]
            CD 13                       ; int 0x13
            72 >fail                    ; jc fail
            66 A1 10 90                 ; mov eax, [0x9010]     sectors of the disk
            66 3B 46 0D                 ; cmp eax, [bp+13]
            75 >fail                    ; jne fail
            66 31 C0                    ; xor eax, eax
            66 A3 =lba                  ; mov [lba], eax
            66 83 CB FF                 ; or ebx, -1            CRC register
read:       66 8B 46 00                 ; mov eax, [bp]
            66 2B 06 =lba               ; sub eax, [lba]        sectors left
            74 >finish                  ; jz finish
            66 83 F8 40                 ; cmp eax, 64
            76 >few                     ; jbe few
            B8 40 00                    ; mov ax, 64
few:        A3 =count                   ; mov [count], ax
            66 53                       ; push ebx
            BE =packet                  ; mov si, packet
            8A 56 0C                    ; mov dl, [bp+12]
            B4 42                       ; mov ah, 0x42          extended read
            CD 13                       ; int 0x13
            66 5B                       ; pop ebx
            72 >fail                    ; jc fail
            8B 0E =count                ; mov cx, [count]
            C1 E1 09                    ; shl cx, 9             bytes that were read
            1E                          ; push ds
            68 00 20                    ; push 0x2000
            1F                          ; pop ds
            31 F6                       ; xor si, si
byte:       AC                          ; lodsb
            30 D8                       ; xor al, bl
            66 0F B6 F8                 ; movzx edi, al
            66 C1 EB 08                 ; shr ebx, 8
            26 67 66 33 1C BD 00 80 00 00 ; xor ebx, es:[edi*4+0x8000]
            E2 >byte                    ; loop byte
            1F                          ; pop ds
            66 0F B7 06 =count          ; movzx eax, word [count]
            66 01 06 =lba               ; add [lba], eax
            EB >read                    ; jmp read
finish:     66 F7 D3                    ; not ebx
            66 89 5E 08                 ; mov [bp+8], ebx
fail:       C3                          ; ret

puts:       AC                          ; lodsb
            84 C0                       ; test al, al
            74 >fail                    ; jz fail               (a ret)
            E8 >>putc                   ; call putc
            EB >puts                    ; jmp puts
puthex:     B0 20                       ; mov al, ' '
            E8 >>putc                   ; call putc
            B9 08 00                    ; mov cx, 8
digit:      66 C1 C3 04                 ; rol ebx, 4
            88 D8                       ; mov al, bl
            24 0F                       ; and al, 15
            3C 0A                       ; cmp al, 10
            72 >decimal                 ; jb decimal
            04 27                       ; add al, 'a' - '0' - 10
decimal:    04 30                       ; add al, '0'
            E8 >>putc                   ; call putc
            E2 >digit                   ; loop digit
            C3                          ; ret
putc:       88 C4                       ; mov ah, al
            BA FD 03                    ; mov dx, 0x3FD         line status
full:       EC                          ; in al, dx
            A8 20                       ; test al, 0x20         holding register empty
            74 >full                    ; jz full
            BA F8 03                    ; mov dx, 0x3F8
            88 E0                       ; mov al, ah
            EE                          ; out dx, al
            C3                          ; ret

banner:     $banner
ok:         $ok
bad:        $bad
packet:     10 00                       ; length of the packet
count:      00 00
            00 00 00 20                 ; buffer 2000:0000
lba:        00 00 00 00 00 00 00 00
disk0:      $sectors0
expected0:  $crc0
measured0:  00 00 00 00
            80                          ; drive
            $length0
disk1:      $sectors1
expected1:  $crc1
measured1:  00 00 00 00
            81
            $length1
"""


def boot_sector(sectors: tuple[int, int], crcs: tuple[int, int], lengths: tuple[int, int]) -> bytes:
    """Return the sector for two disks.

    Args:
        sectors: How many sectors to read of each, from its beginning.
        crcs: The CRC-32 of these.
        lengths: How many sectors each disk must have.
    """
    given = {
        "banner": f"\n{BANNER}".encode() + b"\0",
        "ok": b" OK\0",
        "bad": b" BAD\0",
        **{f"sectors{number}": struct.pack("<I", value) for number, value in enumerate(sectors)},
        **{f"length{number}": struct.pack("<I", value) for number, value in enumerate(lengths)},
        **{f"crc{number}": struct.pack("<I", value) for number, value in enumerate(crcs)},
    }
    code = _assemble(_LISTING, given)
    if len(code) > _CODE_END:
        raise ValueError(f"the code is {len(code)} bytes long")
    return code.ljust(SECTOR - len(_SIGNATURE), b"\0") + _SIGNATURE


def _assemble(listing: str, given: dict[str, bytes]) -> bytes:
    """Translate the listing; two passes: the first one finds where the labels are."""
    labels: dict[str, int] = {}
    words: list[tuple[int, str]] = []
    place = _LOAD_ADDRESS
    for line in listing.splitlines():
        for word in line.split(";", 1)[0].split():
            if word.endswith(":"):
                labels[word[:-1]] = place
            else:
                words.append((place, word))
                place += (
                    len(given[word[1:]]) if word[0] == "$" else 2 if word[0] == "=" or word[:2] == ">>" else 1
                )
    return b"".join(_word(place, word, labels, given) for place, word in words)


def _word(place: int, word: str, labels: dict[str, int], given: dict[str, bytes]) -> bytes:
    if word[0] == "$":
        return given[word[1:]]
    if word[0] == "=":
        return struct.pack("<H", labels[word[1:]])
    if word[:2] == ">>":
        return struct.pack("<h", labels[word[2:]] - place - 2)
    if word[0] == ">":
        return struct.pack("<b", labels[word[1:]] - place - 1)
    return bytes.fromhex(word)
