//go:build amd64

#include "textflag.h"

// Byte order of the words of a block.
DATA swap<>+0x00(SB)/8, $0x0001020304050607
DATA swap<>+0x08(SB)/8, $0x08090a0b0c0d0e0f
GLOBL swap<>(SB), RODATA|NOPTR, $16

// Registers:
//   AX    state, words of 8 lanes each     R8-R13, SI, DI  the lanes' next blocks
//   BX    constants of the rounds          CX              blocks left
//   DX    constants of the next 16 rounds  R15             for the moment
//   Z0-7  a to h                           Z16-31          the last 16 words of the schedule
//   Z8-14 for the moment                   Z15             swap

// TRANSPOSE makes of 64 bytes of each lane, in r0 to r7, eight words of all lanes.
#define TRANSPOSE(r0, r1, r2, r3, r4, r5, r6, r7) \
	VPUNPCKLQDQ r1, r0, Z0       \
	VPUNPCKHQDQ r1, r0, Z1       \
	VPUNPCKLQDQ r3, r2, Z2       \
	VPUNPCKHQDQ r3, r2, Z3       \
	VPUNPCKLQDQ r5, r4, Z4       \
	VPUNPCKHQDQ r5, r4, Z5       \
	VPUNPCKLQDQ r7, r6, Z6       \
	VPUNPCKHQDQ r7, r6, Z7       \
	VSHUFI64X2  $0x88, Z2, Z0, Z8  \
	VSHUFI64X2  $0x88, Z6, Z4, Z9  \
	VSHUFI64X2  $0xDD, Z2, Z0, Z10 \
	VSHUFI64X2  $0xDD, Z6, Z4, Z11 \
	VSHUFI64X2  $0x88, Z9, Z8, r0  \
	VSHUFI64X2  $0xDD, Z9, Z8, r4  \
	VSHUFI64X2  $0x88, Z11, Z10, r2 \
	VSHUFI64X2  $0xDD, Z11, Z10, r6 \
	VSHUFI64X2  $0x88, Z3, Z1, Z8  \
	VSHUFI64X2  $0x88, Z7, Z5, Z9  \
	VSHUFI64X2  $0xDD, Z3, Z1, Z10 \
	VSHUFI64X2  $0xDD, Z7, Z5, Z11 \
	VSHUFI64X2  $0x88, Z9, Z8, r1  \
	VSHUFI64X2  $0xDD, Z9, Z8, r5  \
	VSHUFI64X2  $0x88, Z11, Z10, r3 \
	VSHUFI64X2  $0xDD, Z11, Z10, r7 \
	VPSHUFB     Z15, r0, r0      \
	VPSHUFB     Z15, r1, r1      \
	VPSHUFB     Z15, r2, r2      \
	VPSHUFB     Z15, r3, r3      \
	VPSHUFB     Z15, r4, r4      \
	VPSHUFB     Z15, r5, r5      \
	VPSHUFB     Z15, r6, r6      \
	VPSHUFB     Z15, r7, r7

// ROUND is one of FIPS 180-4, 6.4.2, step 3; the caller renames a to h.
#define ROUND(i, w, a, b, c, d, e, f, g, h) \
	VPRORQ      $14, e, Z8         \
	VPRORQ      $18, e, Z9         \
	VPRORQ      $41, e, Z10        \
	VMOVDQA64   e, Z11             \
	VPADDQ.BCST (i*8)(DX), w, Z12  \
	VPTERNLOGQ  $0x96, Z9, Z8, Z10 \
	VPTERNLOGQ  $0xCA, g, f, Z11   \
	VPADDQ      Z12, h, h          \
	VPRORQ      $28, a, Z8         \
	VPRORQ      $34, a, Z9         \
	VPRORQ      $39, a, Z13        \
	VMOVDQA64   a, Z14             \
	VPADDQ      Z11, Z10, Z10      \
	VPTERNLOGQ  $0x96, Z9, Z8, Z13 \
	VPTERNLOGQ  $0xE8, c, b, Z14   \
	VPADDQ      Z10, h, h          \
	VPADDQ      Z14, Z13, Z13      \
	VPADDQ      h, d, d            \
	VPADDQ      Z13, h, h

// NEXT is the schedule's word that follows 16 after w0, in its place: w1, w9 and w14
// are those that follow w0 by so many.
#define NEXT(w0, w1, w9, w14) \
	VPRORQ     $1, w1, Z8         \
	VPRORQ     $8, w1, Z9         \
	VPSRLQ     $7, w1, Z10        \
	VPRORQ     $19, w14, Z11      \
	VPRORQ     $61, w14, Z12      \
	VPSRLQ     $6, w14, Z13       \
	VPADDQ     w9, w0, w0         \
	VPTERNLOGQ $0x96, Z9, Z8, Z10 \
	VPTERNLOGQ $0x96, Z12, Z11, Z13 \
	VPADDQ     Z10, w0, w0        \
	VPADDQ     Z13, w0, w0

// func blocks(state *[8][lanes]uint64, next *[lanes]*byte, n int, constants *[80]uint64)
TEXT ·blocks(SB), NOSPLIT, $0-32
	MOVQ            state+0(FP), AX
	MOVQ            next+8(FP), DX
	MOVQ            n+16(FP), CX
	MOVQ            constants+24(FP), BX
	MOVQ            0(DX), R8
	MOVQ            8(DX), R9
	MOVQ            16(DX), R10
	MOVQ            24(DX), R11
	MOVQ            32(DX), R12
	MOVQ            40(DX), R13
	MOVQ            48(DX), SI
	MOVQ            56(DX), DI
	VBROADCASTI32X4 swap<>(SB), Z15

block:
	VMOVDQU64 0(R8), Z16
	VMOVDQU64 0(R9), Z17
	VMOVDQU64 0(R10), Z18
	VMOVDQU64 0(R11), Z19
	VMOVDQU64 0(R12), Z20
	VMOVDQU64 0(R13), Z21
	VMOVDQU64 0(SI), Z22
	VMOVDQU64 0(DI), Z23
	TRANSPOSE(Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23)
	VMOVDQU64 64(R8), Z24
	VMOVDQU64 64(R9), Z25
	VMOVDQU64 64(R10), Z26
	VMOVDQU64 64(R11), Z27
	VMOVDQU64 64(R12), Z28
	VMOVDQU64 64(R13), Z29
	VMOVDQU64 64(SI), Z30
	VMOVDQU64 64(DI), Z31
	TRANSPOSE(Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31)
	VMOVDQU64 0(AX), Z0
	VMOVDQU64 64(AX), Z1
	VMOVDQU64 128(AX), Z2
	VMOVDQU64 192(AX), Z3
	VMOVDQU64 256(AX), Z4
	VMOVDQU64 320(AX), Z5
	VMOVDQU64 384(AX), Z6
	VMOVDQU64 448(AX), Z7
	MOVQ BX, DX

rounds:
	ROUND(0, Z16, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	NEXT(Z16, Z17, Z25, Z30)
	ROUND(1, Z17, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6)
	NEXT(Z17, Z18, Z26, Z31)
	ROUND(2, Z18, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5)
	NEXT(Z18, Z19, Z27, Z16)
	ROUND(3, Z19, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4)
	NEXT(Z19, Z20, Z28, Z17)
	ROUND(4, Z20, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3)
	NEXT(Z20, Z21, Z29, Z18)
	ROUND(5, Z21, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2)
	NEXT(Z21, Z22, Z30, Z19)
	ROUND(6, Z22, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1)
	NEXT(Z22, Z23, Z31, Z20)
	ROUND(7, Z23, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)
	NEXT(Z23, Z24, Z16, Z21)
	ROUND(8, Z24, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	NEXT(Z24, Z25, Z17, Z22)
	ROUND(9, Z25, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6)
	NEXT(Z25, Z26, Z18, Z23)
	ROUND(10, Z26, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5)
	NEXT(Z26, Z27, Z19, Z24)
	ROUND(11, Z27, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4)
	NEXT(Z27, Z28, Z20, Z25)
	ROUND(12, Z28, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3)
	NEXT(Z28, Z29, Z21, Z26)
	ROUND(13, Z29, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2)
	NEXT(Z29, Z30, Z22, Z27)
	ROUND(14, Z30, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1)
	NEXT(Z30, Z31, Z23, Z28)
	ROUND(15, Z31, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)
	NEXT(Z31, Z16, Z24, Z29)
	ADDQ $128, DX
	MOVQ DX, R15
	SUBQ BX, R15
	CMPQ R15, $512
	JB   rounds

	ROUND(0, Z16, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ROUND(1, Z17, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6)
	ROUND(2, Z18, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5)
	ROUND(3, Z19, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4)
	ROUND(4, Z20, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3)
	ROUND(5, Z21, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2)
	ROUND(6, Z22, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1)
	ROUND(7, Z23, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)
	ROUND(8, Z24, Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
	ROUND(9, Z25, Z7, Z0, Z1, Z2, Z3, Z4, Z5, Z6)
	ROUND(10, Z26, Z6, Z7, Z0, Z1, Z2, Z3, Z4, Z5)
	ROUND(11, Z27, Z5, Z6, Z7, Z0, Z1, Z2, Z3, Z4)
	ROUND(12, Z28, Z4, Z5, Z6, Z7, Z0, Z1, Z2, Z3)
	ROUND(13, Z29, Z3, Z4, Z5, Z6, Z7, Z0, Z1, Z2)
	ROUND(14, Z30, Z2, Z3, Z4, Z5, Z6, Z7, Z0, Z1)
	ROUND(15, Z31, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z0)

	VPADDQ    0(AX), Z0, Z0
	VMOVDQU64 Z0, 0(AX)
	VPADDQ    64(AX), Z1, Z1
	VMOVDQU64 Z1, 64(AX)
	VPADDQ    128(AX), Z2, Z2
	VMOVDQU64 Z2, 128(AX)
	VPADDQ    192(AX), Z3, Z3
	VMOVDQU64 Z3, 192(AX)
	VPADDQ    256(AX), Z4, Z4
	VMOVDQU64 Z4, 256(AX)
	VPADDQ    320(AX), Z5, Z5
	VMOVDQU64 Z5, 320(AX)
	VPADDQ    384(AX), Z6, Z6
	VMOVDQU64 Z6, 384(AX)
	VPADDQ    448(AX), Z7, Z7
	VMOVDQU64 Z7, 448(AX)
	ADDQ $128, R8
	ADDQ $128, R9
	ADDQ $128, R10
	ADDQ $128, R11
	ADDQ $128, R12
	ADDQ $128, R13
	ADDQ $128, SI
	ADDQ $128, DI
	DECQ CX
	JNZ  block
	VZEROUPPER
	RET
