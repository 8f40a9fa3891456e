/* A minimal driver: start a program that lies in DRAM and wait for its end.
 *
 * `accelerator.h` is what `python -m hw header` writes; DRAM holds what `python -m sim image` wrote,
 * at `dram_base`, and the values of `struct program` are those that it printed. */
#include "accelerator.h"
#include <stdint.h>

struct program {
    uint32_t code, instructions, store_base, store_limit, dram_base;
    uint64_t fingerprint;
};

static uint32_t get(volatile uint32_t *registers, uint32_t offset) { return registers[offset / 4]; }

static void set(volatile uint32_t *registers, uint32_t offset, uint32_t value) {
    registers[offset / 4] = value;
}

uint64_t accelerator_counter(volatile uint32_t *registers, uint32_t offset) {
    return get(registers, offset) | (uint64_t)get(registers, offset + 4) << 32;
}

/* 0, or ACCEL_ERROR_...; -1: another circuit, -2: busy with another program. */
int accelerator_run(volatile uint32_t *registers, const struct program *program) {
    if (get(registers, ACCEL_REG_ID) != ACCEL_ID ||
        get(registers, ACCEL_REG_VERSION) != ACCEL_VERSION ||
        get(registers, ACCEL_REG_FINGERPRINT_LOW) != (uint32_t)program->fingerprint ||
        get(registers, ACCEL_REG_FINGERPRINT_HIGH) != (uint32_t)(program->fingerprint >> 32))
        return -1;
    if (get(registers, ACCEL_REG_STATUS) & ACCEL_STATUS_BUSY) return -2;
    set(registers, ACCEL_REG_PROGRAM_BASE, program->code);
    set(registers, ACCEL_REG_PROGRAM_LENGTH, program->instructions);
    set(registers, ACCEL_REG_STORE_BASE, program->store_base);
    set(registers, ACCEL_REG_STORE_LIMIT, program->store_limit);
    set(registers, ACCEL_REG_DRAM_BASE, program->dram_base);
    set(registers, ACCEL_REG_CONTROL, ACCEL_CONTROL_CLEAR_IRQ);
    set(registers, ACCEL_REG_CONTROL, ACCEL_CONTROL_START);
    while (!(get(registers, ACCEL_REG_STATUS) & ACCEL_STATUS_DONE)) { /* or wait for the interrupt */
    }
    set(registers, ACCEL_REG_CONTROL, ACCEL_CONTROL_CLEAR_IRQ);
    return (int)get(registers, ACCEL_REG_ERROR_CODE);
}
