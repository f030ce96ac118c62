# From the processor's first instruction to main(), without a BIOS: Bochs takes .rom as the ROM and puts .ram into
# memory itself, so nothing has to be loaded. Interrupts stay off and there is no table of them: a fault ends the emulation.

.section .rom, "ax"
.code16
.global rom
rom:
  movl $0x00040620, %eax  # CR4: PAE; OSFXSR, OSXMMEXCPT, OSXSAVE: SSE and what XSETBV is to allow
  movl %eax, %cr4
  movl $level4, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx  # EFER: long mode
  rdmsr
  orl $0x100, %eax
  wrmsr
  lgdtl %cs:(descriptors_pointer - rom)
  movl $0x80000033, %eax  # CR0: paging and protection in one, which is long mode; the caches on
  movl %eax, %cr0
  ljmpl $8, $long

descriptors:
  .quad 0, 0x00209a0000000000  # 64-bit code
descriptors_pointer:
  .word 15
  .long descriptors

.section .reset, "ax"  # the last 16 bytes of the ROM
  jmp rom

.section .text
.code64
long:
  # Bochs has memory in blocks of 128 KiB, puts them one behind the other as they are first touched, and .ram over the
  # first ones whole: so they are touched in order.
  movl $0x100000, %ebx
1:
  movb (%rbx), %al
  addl $0x20000, %ebx
  cmpl $bss, %ebx
  jb 1b
  xorl %ecx, %ecx
  movl $0xe7, %eax  # XCR0: x87, SSE, AVX, and the three parts of AVX-512
  xorl %edx, %edx
  xsetbv
  movl $bss, %edi
  movl $bss_bytes, %ecx
  xorl %eax, %eax
  rep stosb
  movl $stack_top, %esp
  call main
1:
  hlt
  jmp 1b

# The first 4 GiB, mapped to themselves in pages of 1 GiB.
.section .data
.balign 4096
level4:
  .quad level3 + 3
  .fill 511, 8, 0
level3:
  .quad 0x00000083, 0x40000083, 0x80000083, 0xc0000083
  .fill 508, 8, 0

.section .bss
.balign 64
  .skip 1 << 20
stack_top:

.section .note.GNU-stack, "", @progbits
