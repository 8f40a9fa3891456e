// Drives the models of ECP5 blocks: a line of numbers per clock in, a line of outputs back.
#include <cstdio>

#include "Vtop.h"
#include "verilated.h"

int main() {
    VerilatedContext context;
    Vtop top(&context);
    unsigned ram_a, ram_b, ad_a, ad_b, di_a, di_b, enables, mul_a, mul_b, controls;
    top.clk = 0;
    top.eval();
    while (std::scanf("%u %u %u %u %u %u %u %u %u %u", &ram_a, &ram_b, &ad_a, &ad_b, &di_a, &di_b,
                      &enables, &mul_a, &mul_b, &controls) == 10) {
        top.we_a = ram_a;
        top.we_b = ram_b;
        top.ad_a = ad_a;
        top.ad_b = ad_b;
        top.di_a = di_a;
        top.di_b = di_b;
        top.enables = enables;
        top.mul_a = mul_a;
        top.mul_b = mul_b;
        top.controls = controls;
        top.clk = 0;
        top.eval();
        top.clk = 1;
        top.eval();
        std::printf("%u %u %u %u %u %u %u %u %llu %llu %llu\n", top.do_a4, top.do_b4, top.do_a18,
                    top.do_b18, top.do_a36, top.do_b36, top.do_aw, top.do_bn,
                    (unsigned long long)top.p_registered, (unsigned long long)top.p_plain,
                    (unsigned long long)top.p_piped);
    }
    return 0;
}
