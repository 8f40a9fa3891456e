// Runs one job on the core: start over AXI4-Lite, wait for the interrupt, read the counters.
//
// The DRAM is a file, mapped and changed in place. Everything else that the run gives is written
// to `--report` (JSON) and `--trace` (64-bit words, see Simulation::trace).
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

#include "options.hpp"
#include "parameters.hpp"
#include "simulation.hpp"

namespace {

using Clock = std::chrono::steady_clock;

class MappedFile {
  public:
    explicit MappedFile(const std::string& path) {
        const int file = open(path.c_str(), O_RDWR);
        struct stat status {};
        if (file < 0 || fstat(file, &status) || status.st_size == 0)
            throw std::runtime_error("cannot open the memory file " + path);
        size_ = uint64_t(status.st_size);
        void* address = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (address == MAP_FAILED) throw std::runtime_error("cannot map the memory file " + path);
        data_ = static_cast<uint8_t*>(address);
    }
    ~MappedFile() { munmap(data_, size_); }
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    uint8_t* data() const { return data_; }
    uint64_t size() const { return size_; }

  private:
    uint8_t* data_;
    uint64_t size_;
};

// Copies parts of the memory in the middle of a run: what later STOREs write over.
class Keeper {
  public:
    // `wanted`: triples (beats written, first byte, bytes) in ascending order.
    Keeper(const std::string& wanted, const std::string& kept, const MappedFile& memory)
        : memory_(memory), kept_(kept, std::ios::binary), path_(kept) {
        std::ifstream file(wanted, std::ios::binary);
        Want want;
        while (file.read(reinterpret_cast<char*>(&want), sizeof(want))) {
            if (want.first > memory.size() || want.bytes > memory.size() - want.first)
                throw std::runtime_error("what is to be kept is not in the memory");
            wants_.push_back(want);
        }
    }

    void written(uint64_t beats) {
        for (; next_ < wants_.size() && wants_[next_].beats <= beats; ++next_)
            kept_.write(reinterpret_cast<const char*>(memory_.data() + wants_[next_].first),
                        std::streamsize(wants_[next_].bytes));
    }

    void finish() {
        if (!kept_.flush()) throw std::runtime_error("cannot write " + path_);
    }

  private:
    struct Want {
        uint64_t beats, first, bytes;
    };
    const MappedFile& memory_;
    std::ofstream kept_;
    std::string path_;
    std::vector<Want> wants_;
    size_t next_ = 0;
};

struct Outcome {
    std::string status = "interrupt";
    std::string message;
    uint64_t start = 0;
    uint64_t interrupt = 0;
    double seconds = 0;
};

void start(Simulation& simulation, const Options& options, Outcome& outcome) {
    simulation.reset();
    simulation.write(registers::IRQ_ENABLE, 1);
    simulation.write(registers::PROGRAM_BASE, uint32_t(options.number("program-base")));
    simulation.write(registers::PROGRAM_LENGTH, uint32_t(options.number("program-length")));
    simulation.write(registers::STORE_BASE, uint32_t(options.number("store-base")));
    simulation.write(registers::STORE_LIMIT, uint32_t(options.number("store-limit")));
    simulation.write(registers::DRAM_BASE, uint32_t(options.number("dram-base")));
    simulation.write(registers::WATCHDOG, uint32_t(options.number("watchdog")));
    simulation.write(registers::CONTROL, registers::START);
    outcome.start = simulation.last_write_cycle();
}

void wait_for_interrupt(Simulation& simulation, const Options& options, Outcome& outcome) {
    const uint64_t abort_at = options.number("abort-at", ~uint64_t(0));
    const uint64_t interval = options.number("progress", 0);
    uint64_t next = interval ? simulation.cycle() + interval : ~uint64_t(0);
    const uint64_t first = simulation.cycle();
    const auto begin = Clock::now();
    bool aborted = false;
    while (!simulation.irq()) {
        simulation.tick();
        if (!aborted && simulation.cycle() - first >= abort_at) {
            simulation.write(registers::CONTROL, registers::ABORT);
            aborted = true;
        }
        if (simulation.cycle() >= next) {
            next += interval;
            const std::chrono::duration<double> passed = Clock::now() - begin;
            std::fprintf(stderr, "%.1f Mcycles, %.0f kHz\n", simulation.cycle() * 1e-6,
                         (simulation.cycle() - first) * 1e-3 / passed.count());
        }
    }
    outcome.interrupt = simulation.cycle();
    outcome.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
}

void write_report(const std::string& path, Simulation& simulation, const Outcome& outcome) {
    std::ofstream report(path);
    const bool readable = outcome.status == "interrupt";
    report << "{\n  \"status\": \"" << outcome.status << "\",\n  \"message\": \""
           << outcome.message << "\",\n  \"start_cycle\": " << outcome.start
           << ",\n  \"interrupt_cycle\": " << outcome.interrupt
           << ",\n  \"last_cycle\": " << simulation.cycle()
           << ",\n  \"bursts_ended\": " << (simulation.memory().idle() ? "true" : "false")
           << ",\n  \"read_bursts\": " << simulation.memory().read_bursts()
           << ",\n  \"write_bursts\": " << simulation.memory().write_bursts()
           << ",\n  \"seconds\": " << outcome.seconds;
    if (readable) {
        simulation.extend_limit(100000);
        report << ",\n  \"registers\": {";
        const char* separator = "";
        for (const auto& entry : registers::REPORTED) {
            report << separator << '"' << entry.name << "\": " << simulation.read(entry.offset);
            separator = ", ";
        }
        report << "},\n  \"counters\": {";
        separator = "";
        for (const auto& entry : registers::COUNTERS) {
            report << separator << '"' << entry.name << "\": " << simulation.read64(entry.offset);
            separator = ", ";
        }
        report << '}';
    }
    report << "\n}\n";
    if (!report.flush()) throw std::runtime_error("cannot write the report " + path);
}

void write_trace(const std::string& path, const Simulation& simulation) {
    std::ofstream file(path, std::ios::binary);
    const auto& words = simulation.trace();
    file.write(reinterpret_cast<const char*>(words.data()),
               std::streamsize(words.size() * sizeof(words[0])));
    if (!file.flush()) throw std::runtime_error("cannot write the trace " + path);
}

void run(const Options& options) {
    MappedFile memory(options.text("memory"));
    VerilatedContext context;
#if defined(WAVES_FST) || defined(WAVES_VCD)
    context.traceEverOn(true);
#endif
    const Stalls stalls(options.number("stall-seed", 0), options.number("stall-percent", 0));
    Simulation simulation(context, memory.data(), memory.size(),
                          options.number("memory-base"), stalls,
                          options.number("max-cycles"));
    const std::string waves = options.text("waves", "");
    if (!waves.empty())
        simulation.open_waves(waves, options.number("waves-first", 0),
                              options.number("waves-last", ~uint64_t(0)));
    Keeper keeper(options.text("keep"), options.text("kept"), memory);
    keeper.written(0);
    simulation.memory().on_write([&keeper](uint64_t beats) { keeper.written(beats); });
    Outcome outcome;
    try {
        start(simulation, options, outcome);
        wait_for_interrupt(simulation, options, outcome);
    } catch (const CycleLimit&) {
        outcome.status = "cycle_limit";
    } catch (const ProtocolError& error) {
        outcome.status = "protocol";
        outcome.message = error.what();
    }
    keeper.finish();
    write_trace(options.text("trace"), simulation);
    write_report(options.text("report"), simulation, outcome);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(Options(argc, argv));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
