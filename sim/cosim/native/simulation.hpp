// The core, its clock, its memory and its register port, one cycle at a time.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "Vtop.h"
#include "axi_memory.hpp"
#include "parameters.hpp"
#include "verilated.h"
#ifdef WAVES_FST
#include "verilated_fst_c.h"
using WaveFile = VerilatedFstC;
#elif defined(WAVES_VCD)
#include "verilated_vcd_c.h"
using WaveFile = VerilatedVcdC;
#endif

struct CycleLimit {};

class Simulation {
  public:
    Simulation(VerilatedContext& context, uint8_t* data, uint64_t size, uint64_t base,
               Stalls stalls, uint64_t limit)
        : context_(context),
          top_(std::make_unique<Vtop>(&context)),
          memory_(*top_, data, size, base, stalls),
          limit_(limit) {}

    ~Simulation() {
#if defined(WAVES_FST) || defined(WAVES_VCD)
        if (waves_) waves_->close();
#endif
        top_->final();
    }

    void open_waves(const std::string& path, uint64_t first, uint64_t last) {
#if defined(WAVES_FST) || defined(WAVES_VCD)
        waves_ = std::make_unique<WaveFile>();
        top_->trace(waves_.get(), 99);
        waves_->open(path.c_str());
        waves_first_ = first;
        waves_last_ = last;
#else
        (void)path, (void)first, (void)last;
        throw std::runtime_error("this model was built without waveforms");
#endif
    }

    // One clock cycle. Inputs set beforehand hold for the whole cycle.
    void tick() {
        if (cycle_ >= limit_) throw CycleLimit{};
        memory_.drive(cycle_);
        top_->clk = 0;
        top_->eval();
        dump(0);
        memory_.sample(cycle_);
        sample_lite();
        sample_trace();
        top_->clk = 1;
        top_->eval();
        dump(1);
        ++cycle_;
    }

    void reset() {
        top_->rst = 1;
        for (int i = 0; i < 4; ++i) tick();
        top_->rst = 0;
    }

    void write(uint32_t address, uint32_t value) {
        top_->s_axi_awaddr = address;
        top_->s_axi_awvalid = 1;
        top_->s_axi_wdata = value;
        top_->s_axi_wstrb = 0xF;
        top_->s_axi_wvalid = 1;
        top_->s_axi_bready = 1;
        bool responded = false;
        while (!responded) {
            tick();
            if (lite_.aw) top_->s_axi_awvalid = 0;
            if (lite_.w) top_->s_axi_wvalid = 0;
            responded = lite_.b;
        }
        top_->s_axi_bready = 0;
    }

    uint32_t read(uint32_t address) {
        top_->s_axi_araddr = address;
        top_->s_axi_arvalid = 1;
        top_->s_axi_rready = 1;
        do {
            tick();
            if (lite_.ar) top_->s_axi_arvalid = 0;
        } while (!lite_.r);
        top_->s_axi_rready = 0;
        return lite_.data;
    }

    uint64_t read64(uint32_t address) {
        const uint64_t low = read(address);
        return low | uint64_t(read(address + 4)) << 32;
    }

    // Leaves time to read the registers after a run that ended close to its limit.
    void extend_limit(uint64_t cycles) { limit_ = cycle_ + cycles; }

    bool irq() const { return top_->irq; }
    uint64_t cycle() const { return cycle_; }
    uint64_t last_write_cycle() const { return lite_write_cycle_; }
    const AxiMemory<Vtop>& memory() const { return memory_; }
    AxiMemory<Vtop>& memory() { return memory_; }
    // One word per cycle with an event: cycle << 16 | issue strobes << 8 | done strobes.
    const std::vector<uint64_t>& trace() const { return trace_; }

  private:
    struct Lite {
        bool aw, w, b, ar, r;
        uint32_t data;
    };

    void sample_lite() {
        lite_ = {bool(top_->s_axi_awvalid && top_->s_axi_awready),
                 bool(top_->s_axi_wvalid && top_->s_axi_wready),
                 bool(top_->s_axi_bvalid && top_->s_axi_bready),
                 bool(top_->s_axi_arvalid && top_->s_axi_arready),
                 bool(top_->s_axi_rvalid && top_->s_axi_rready), top_->s_axi_rdata};
        if (lite_.w) lite_write_cycle_ = cycle_;
    }

    void sample_trace() {
        if (const uint32_t events = top_->trace_issue << 8 | top_->trace_done)
            trace_.push_back(cycle_ << 16 | events);
    }

    void dump(int half) {
#if defined(WAVES_FST) || defined(WAVES_VCD)
        if (waves_ && cycle_ >= waves_first_ && cycle_ <= waves_last_)
            waves_->dump(cycle_ * 2 + half);
#else
        (void)half;
#endif
    }

    VerilatedContext& context_;
    std::unique_ptr<Vtop> top_;
    AxiMemory<Vtop> memory_;
    uint64_t limit_;
    uint64_t cycle_ = 0;
    uint64_t lite_write_cycle_ = 0;
    Lite lite_{};
    std::vector<uint64_t> trace_;
#if defined(WAVES_FST) || defined(WAVES_VCD)
    std::unique_ptr<WaveFile> waves_;
    uint64_t waves_first_ = 0;
    uint64_t waves_last_ = 0;
#endif
};
