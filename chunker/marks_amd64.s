//go:build amd64

#include "textflag.h"

// Registers:
//   DI  where the next marks go     Z0-15   the table, 16 values each
//   SI  the next 16 bytes           Z16-21  what the last 16 bytes came to; see below
//   CX  blocks left                 Z22-24  the inverse, the rotation, the limit
//   AX  constants                   Z25     the bytes, as indexes
//                                   Z26-30  for the moment

// LOOKUP looks the low five bits of Z25 up in 32 values of the table.
#define LOOKUP(low, high, to) \
	VMOVDQA32 Z25, to         \
	VPERMI2D  high, low, to

// DOUBLE makes of the hashes of n bytes that end at each place, in Z26, those of 2n.
// The ones of the block before are in before, and make way for these.
#define DOUBLE(n, before) \
	VALIGND   $(16-n), before, Z26, Z30 \
	VPROLD    $n, Z30, Z30              \
	VMOVDQA32 Z26, before               \
	VPXORD    Z30, Z26, Z26

// func mark(to *uint64, from *byte, blocks int, k *constants)
TEXT ·mark(SB), NOSPLIT, $0-32
	MOVQ to+0(FP), DI
	MOVQ from+8(FP), SI
	MOVQ blocks+16(FP), CX
	MOVQ k+24(FP), AX
	LEAQ ·table(SB), BX
	VMOVDQU32 0(BX), Z0
	VMOVDQU32 64(BX), Z1
	VMOVDQU32 128(BX), Z2
	VMOVDQU32 192(BX), Z3
	VMOVDQU32 256(BX), Z4
	VMOVDQU32 320(BX), Z5
	VMOVDQU32 384(BX), Z6
	VMOVDQU32 448(BX), Z7
	VMOVDQU32 512(BX), Z8
	VMOVDQU32 576(BX), Z9
	VMOVDQU32 640(BX), Z10
	VMOVDQU32 704(BX), Z11
	VMOVDQU32 768(BX), Z12
	VMOVDQU32 832(BX), Z13
	VMOVDQU32 896(BX), Z14
	VMOVDQU32 960(BX), Z15
	VPXORD Z16, Z16, Z16
	VPXORD Z17, Z17, Z17
	VPXORD Z18, Z18, Z18
	VPXORD Z19, Z19, Z19
	VPXORD Z20, Z20, Z20
	VPXORD Z21, Z21, Z21
	VPBROADCASTD 0(AX), Z22
	VPBROADCASTD 4(AX), Z23
	VPBROADCASTD 8(AX), Z24

block:
	VPMOVZXBD (SI), Z25
	VPTESTMD.BCST 12(AX), Z25, K1
	VPTESTMD.BCST 16(AX), Z25, K2
	VPTESTMD.BCST 20(AX), Z25, K3
	LOOKUP(Z0, Z1, Z26)
	LOOKUP(Z2, Z3, Z27)
	LOOKUP(Z4, Z5, Z28)
	LOOKUP(Z6, Z7, Z29)
	VMOVDQA32 Z27, K1, Z26
	VMOVDQA32 Z29, K1, Z28
	VMOVDQA32 Z28, K2, Z26
	LOOKUP(Z8, Z9, Z27)
	LOOKUP(Z10, Z11, Z28)
	LOOKUP(Z12, Z13, Z29)
	LOOKUP(Z14, Z15, Z30)
	VMOVDQA32 Z28, K1, Z27
	VMOVDQA32 Z30, K1, Z29
	VMOVDQA32 Z29, K2, Z27
	VMOVDQA32 Z27, K3, Z26

	DOUBLE(1, Z16)
	DOUBLE(2, Z17)
	DOUBLE(4, Z18)
	DOUBLE(8, Z19)

	// 48 = 16 + 16 + 16, of this block, the last one (Z20) and the one before (Z21);
	// to rotate by 32 is to leave as it is.
	VPROLD     $16, Z20, Z30
	VPTERNLOGD $0x96, Z21, Z26, Z30
	VMOVDQA32  Z20, Z21
	VMOVDQA32  Z26, Z20

	// (h+1)*inverse, rotated, is at most the limit where d divides h+1.
	VPMULLD  Z22, Z30, Z30
	VPADDD   Z22, Z30, Z30
	VPRORVD  Z23, Z30, Z30
	VPCMPUD  $2, Z24, Z30, K4
	KMOVW    K4, (DI)
	ADDQ     $16, SI
	ADDQ     $2, DI
	DECQ     CX
	JNZ      block
	VZEROUPPER
	RET
