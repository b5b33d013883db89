#: ahead.c: a GPT-2 trainer in C and CUDA
#:
#:   make                 the trainer, ./train_gpt2cu: CUDA variants where nvcc is found, and always the CPU variants
#:   make quickstart      build, make a small corpus, train for about a minute, plot the loss, print a sample
#:   make test            every test program; the last line counts them (TESTS=gemm: only those with gemm in their name)
#:   make test-long       what takes minutes or asks the network (LONG="kill fuzz": only those); each says what it needs
#:   make fuzz            fuzzes every reader of files and flags (FUZZ="flags shard": only those; FUZZ_SECONDS=300 each; needs clang)
#:   make test-gpu        the kernel and model tests compiled by nvcc and run on the GPU here (test-gpu-build: only compiled)
#:   make mutants         do the tests notice planted faults? minutes (MUTANTS="rope adamw": only those)
#:   make plans           cuDNN's attention plans for sm_80 .. sm_120 without a GPU, 5 to 15 minutes (PLANS="89 90": only those)
#:   make sass            registers, spills, 128-bit accesses, tensor cores: every CUDA kernel's machine code, and rules about it
#:   make budget          launches, products and bytes by kernel of a step on a GPU, counted in the emulation (needs clang)
#:   make bench           the benchmarks (BENCH=gemm: one of them);   make bench-gpu: kernels and products on the GPU here
#:   make tools           data/prepare, data/make_corpus and the other programs of data/
#:   make lint            style, size budgets, shell scripts;   make format: rewrite to the style
#:   make setup           install what is missing (Debian packages; with CUDA and cuDNN also cuDNN's frontend headers)
#:   make found           look again at what this machine offers, and print it
#:   make clean           remove everything that was built;     make help: this text
#:
#:   CUDA=auto|0|1        the CUDA variants: if possible, never, or else stop     (CUDNN= and NCCL= work the same way)
#:   SM="80 90"           GPU architectures; default: the visible GPU's, else 80 86 89 90 100 120 as far as nvcc has them
#:   MARCH=native         CPU instruction set of the CPU variants
#:   DEBUG=1              -O1 -g and guard zones between arena slices
#:   V=1                  print the commands
#:   CXXFLAGS= CFLAGS= NVCCFLAGS= LDFLAGS= CUDNN_FRONTEND_PATH=       added to ours; where cudnn_frontend.h is
#
# train_gpt2.cu is compiled once per (device, precision) into build/<variant>.o; its global functions carry the variant in their name
# (ahead_train_cpu_fp32), and `main` is in cpu_fp32. All objects are linked into the one binary.
# build/found.mk says what scripts/probe.sh found here; build/flags/* change when flags change, and objects depend on them.

CUDA ?= auto
CUDNN ?= auto
NCCL ?= auto
SM ?=
MARCH ?= native
NVCC ?= nvcc
ifeq ($(origin CC),default)
CC := gcc
endif
Q := $(if $(V),,@)
MAKEFLAGS += --no-print-directory

.PHONY: quickstart test test-long fuzz fuzzers test-gpu test-gpu-build mutants budget plans sass bench bench-gpu tools tests list-tests list-gpu-tests benches lint format setup found clean help
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := train_gpt2cu

# --- what is here ------------------------------------------------------------------------------------------------------------
# A goal that does not look (LOOKS_AT_MACHINE) knows no flags and leaves the stamps alone: `make help` would have all of it built again.
stamp = $(if $(LOOKS_AT_MACHINE),$(shell mkdir -p build/flags && echo '$(strip $2)' | cmp -s - build/flags/$1 || \
    echo '$(strip $2)' >build/flags/$1))build/flags/$1
build/flags/%: ;

FRONTEND_DIRS := $(CUDNN_FRONTEND_PATH) $(CUDNN_FRONTEND_PATH:%=%/include) \
    $(wildcard build/venv/lib/python3*/site-packages/include .venv/lib/python3*/site-packages/include) /usr/include /usr/local/include
export CXX NVCC CUDA CUDNN NCCL SM FRONTEND_DIRS

LOOKS_AT_MACHINE := $(filter-out quickstart mutants lint format setup found clean help,$(or $(MAKECMDGOALS),train_gpt2cu))
ifneq ($(LOOKS_AT_MACHINE),)
# Probed again when a choice above changes, or when a compiler, a GPU, the frontend or cmocka comes or goes.
HERE := $(CXX) $(CUDA) $(CUDNN) $(NCCL) $(SM) $(CUDA_HOME) $(FRONTEND_DIRS) $(wildcard $(FRONTEND_DIRS:=/cudnn_frontend.h) /dev/nvidia0 \
    /usr/include/cmocka.h) $(shell command -v $(CXX)) $(shell command -v $(NVCC))
build/found.mk: scripts/probe.sh $(call stamp,here,$(HERE))
	@scripts/probe.sh
include build/found.mk
endif

# --- flags -------------------------------------------------------------------------------------------------------------------
# No -ffast-math: NaN checks must work. The four flags below are what vectorising sums needs, and keep NaN and infinity.
MATH := -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros
OPT := $(if $(DEBUG),-O1 -g -DAHEAD_GUARDS=1,-O3)
WARN := -Wall -Wextra
CPU_FLAGS := -std=c++17 $(OPT) -march=$(MARCH) -fopenmp $(MATH) $(WARN) -I. $(CXXFLAGS)
C_FLAGS := -std=gnu11 $(OPT) -march=$(MARCH) $(WARN) -I. $(CFLAGS)
# The emulation: CUDA's kernels by a C++ compiler (test/emu/emu.h). A row that is kept in registers is filled and read under the
# same condition, which g++ cannot follow across a barrier. As nvcc, it may not reorder sums; and whether it fuses a product into a sum
# would depend on how it vectorised a loop, so that two kernels which share their source would differ in a bit. -O1: compiles in half the
# time of -O3 and runs as fast, since most of it is switching fibers.
EMU_FLAGS := -std=c++17 -O1 $(if $(DEBUG),-g) -march=$(MARCH) -fno-math-errno -fno-trapping-math -ffp-contract=off $(WARN) -Wno-uninitialized \
    -Wno-maybe-uninitialized -DAHEAD_EMU -DAHEAD_GUARDS=1 -I. -Itest/emu $(CXXFLAGS)
EMU_STAMP := $(call stamp,emu,$(CXX) $(EMU_FLAGS))
# Its checking build: clang announces every load and store to test/emu/emu_check.h; the sanitizer's own library is not linked.
CHECK_CXX := $(shell command -v clang++)
CHECK_FLAGS := -std=c++17 -O1 -gline-tables-only -fno-vectorize -fno-slp-vectorize -fsanitize=thread $(WARN) -Wno-unused-function \
    -DAHEAD_EMU -DEMU_CHECK -DTEST_BRIEFLY -DAHEAD_GUARDS=1 -I. -Itest/emu
CHECK_STAMP := $(call stamp,check,$(CHECK_CXX) $(CHECK_FLAGS))
# And its sanitizer build, where the first report ends the program (test/emu/emu_sanitize.h)
SANITIZE_FLAGS := -std=c++17 -O1 -gline-tables-only -fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow \
    -fno-sanitize-recover=all $(WARN) -DAHEAD_EMU -DTEST_BRIEFLY -DAHEAD_GUARDS=1 -I. -Itest/emu
SANITIZE_STAMP := $(call stamp,sanitize,$(CHECK_CXX) $(SANITIZE_FLAGS))
# And its counting build (test/emu/emu_budget.h): loops over a row's registers must be unrolled, as nvcc does.
BUDGET_FLAGS := -std=c++17 -O2 -g1 -march=$(MARCH) -fno-vectorize -fno-slp-vectorize -fsanitize=thread -Wno-pass-failed $(WARN) \
    -mllvm -tsan-instrument-read-before-write -mllvm -tsan-instrument-func-entry-exit=0 -DAHEAD_EMU -DEMU_BUDGET -DAHEAD_GUARDS=1 \
    -I. -Itest/emu
BUDGET_STAMP := $(call stamp,budget,$(CHECK_CXX) $(BUDGET_FLAGS))
# Fuzz targets (test/fuzz/fuzz.h), where clang has libFuzzer: one program for each reader of files or flags
CHECK_CC := $(shell command -v clang)
FUZZER := $(if $(and $(CHECK_CC),$(CHECK_CXX)),$(wildcard $(shell $(CHECK_CC) -print-resource-dir)/lib/*/libclang_rt.fuzzer-*.a \
    $(shell $(CHECK_CC) -print-resource-dir)/lib/*/libclang_rt.fuzzer.a))
FUZZ_FLAGS := -O1 -gline-tables-only -fno-omit-frame-pointer -fsanitize=fuzzer,address,undefined,float-cast-overflow \
    -fno-sanitize-recover=all $(WARN) -Wno-unused-function -Wno-unused-variable -Wno-unknown-pragmas -I.
FUZZ_STAMP := $(call stamp,fuzz,$(CHECK_CC) $(FUZZ_FLAGS))
CUDA_FLAGS := -std=c++17 -t 1 $(GENCODE) $(if $(DEBUG),-O1 -g -lineinfo -DAHEAD_GUARDS=1,-O3) -Xcompiler -fopenmp,-Wall,-Wextra -I. \
    $(if $(HAVE_CUDNN),-DAHEAD_CUDNN=1) $(if $(HAVE_NCCL),-DAHEAD_WITH_NCCL=1) $(NVCCFLAGS)
CUDNN_FLAGS := -std=c++17 -O1 $(WARN) -I. -isystem $(FRONTEND) -isystem $(CUDA_HOME)/include -DCUDNN_FRONTEND_SKIP_JSON_LIB
LIBS := $(if $(HAVE_CUDA),$(CUDA_LIBS) $(if $(HAVE_CUDNN),-lcudnn -lnvrtc) $(if $(HAVE_NCCL),-lnccl) -lcublasLt -lcudart_static -ldl -lrt) \
    -lpthread -lm
CODE_fp32 := 0
CODE_bf16 := 1
CODE_fp16 := 2
PRECISIONS := fp32 bf16 fp16
comma := ,

# $(call run,LABEL,command): one quiet line; what the compiler says is shown, and kept in build/log (make test wants it empty).
LOG = build/log/$(subst /,.,$@)
define run
$(Q)printf '  %-5s %s\n' '$1' '$@'
$(Q)mkdir -p $(@D) build/log; $2 2>$(LOG); status=$$?; cat $(LOG) >&2; exit $$status
endef
DEPENDENCIES = -MMD -MP -MT $@ -MF build/$(subst /,.,$@).d

# --- the trainer -------------------------------------------------------------------------------------------------------------
CPU_VARIANTS := $(PRECISIONS:%=cpu_%)
CUDA_VARIANTS := $(if $(HAVE_CUDA),cuda_bf16 cuda_fp32 cuda_fp16)
OBJECTS := $(CPU_VARIANTS:%=build/%.o) $(CUDA_VARIANTS:%=build/%.o) $(if $(HAVE_CUDNN),build/attention_cudnn.o)

train_gpt2cu: $(OBJECTS) $(call stamp,link,$(CXX) $(OBJECTS) $(LIBS) $(LDFLAGS))
	$(call run,LINK,$(CXX) -fopenmp $(OBJECTS) -o $@ $(LIBS) $(LDFLAGS))
	@echo "  ./train_gpt2cu: $(CPU_VARIANTS) $(or $(CUDA_VARIANTS),and no CUDA variant: no nvcc here, or CUDA=0)"

CPU_STAMP := $(call stamp,cpu,$(CXX) $(CPU_FLAGS))
build/cpu_fp32.o: MAIN := -DAHEAD_MAIN $(if $(HAVE_CUDA),-DAHEAD_WITH_CUDA=1)
build/cpu_fp32.o: $(call stamp,main,$(HAVE_CUDA))
build/cpu_%.o: train_gpt2.cu $(CPU_STAMP) | compiler
	$(call run,CXX,$(CXX) $(CPU_FLAGS) -DPRECISION=$(CODE_$*) -DVARIANT=cpu_$* $(MAIN) $(DEPENDENCIES) -x c++ -c $< -o $@)

build/cuda_%.o: train_gpt2.cu $(call stamp,cuda,$(NVCC) $(CUDA_FLAGS))
	$(call run,NVCC,$(NVCC) $(CUDA_FLAGS) -DPRECISION=$(CODE_$*) -DVARIANT=cuda_$* $(DEPENDENCIES) -c $< -o $@)

# 20-45 s and 1.1 GB of memory: the frontend's headers. Only this file includes them.
build/attention_cudnn.o: llmc/ops/attention_cudnn.cpp $(call stamp,cudnn,$(CXX) $(CUDNN_FLAGS))
	$(call run,CXX,$(CXX) $(CUDNN_FLAGS) $(DEPENDENCIES) -c $< -o $@)

.PHONY: compiler
compiler:
	$(if $(HAVE_CXX),@:,@echo "error: no C++ compiler with OpenMP here ($(CXX)): run \`make setup\`, or name one with CXX=" >&2; exit 1)

# --- data tools, tests, benchmarks -------------------------------------------------------------------------------------------
TOOLS := $(patsubst %.c,%,$(wildcard data/*.c))
tools: $(TOOLS)
$(TOOLS): data/%: data/%.c $(call stamp,c,$(CC) $(C_FLAGS))
	$(call run,CC,$(CC) $(C_FLAGS) $(DEPENDENCIES) $< -o $@ $(LDFLAGS) -lpthread -lm)

# Tests that compile the whole model are built together, in test/test_objectives.cu and test/test_models.cu; each can be built alone.
# Objectives stand on operations that all three precisions test: two on the CPU and one in the emulation are enough for them. The whole
# model in fp16 runs in the emulation.
OBJECTIVE_TESTS := consistency filter heads light_decoders light_mass lightrnn smoothing spelling table_embedding
MODEL_TESTS := cache choices generate lightrnn_gold mtp score
TEST_CU := $(filter-out $(OBJECTIVE_TESTS) $(MODEL_TESTS),$(patsubst test/test_%.cu,%,$(wildcard test/test_*.cu)))
# What runs in the emulation: programs that read device memory through copies only
EMU_TESTS := activation attention classifier decode feed gemm model models objectives ops optim products
CHECK_TESTS := $(filter-out feed gemm model models,$(EMU_TESTS))
# model and models launch no kernel that the others do not, on slices of one allocation, whose edges a sanitizer does not see
SANITIZE_TESTS := $(filter-out model models,$(EMU_TESTS))
CPU_PROGRAMS := $(TEST_CU:%=build/test/test_%_fp32) $(patsubst %,build/test/test_%_bf16,$(filter-out reassign,$(TEST_CU))) \
    $(patsubst %,build/test/test_%_fp16,$(filter-out feed model models objectives plan reassign,$(TEST_CU)))
# fp16 in the emulation: where a type has instructions, descriptors or a scale of its own
EMU_PROGRAMS := $(EMU_TESTS:%=build/test/test_%_emu_bf16) \
    $(patsubst %,build/test/test_%_emu_fp32,$(filter-out feed models objectives,$(EMU_TESTS))) build/test/test_lightrnn_emu_fp32 \
    $(patsubst %,build/test/test_%_emu_fp16,attention classifier gemm model optim) build/test/test_emulation
CHECK_PROGRAMS := $(if $(CHECK_CXX),$(CHECK_TESTS:%=build/test/test_%_check_bf16) build/test/test_attention_check_fp32 build/test/test_check \
    build/test/test_budget)
SANITIZE_PROGRAMS := $(if $(CHECK_CXX),$(SANITIZE_TESTS:%=build/test/test_%_asan_bf16) build/test/test_attention_asan_fp32 \
    build/test/test_emulation_asan build/test/test_sanitize)
FUZZ_PROGRAMS := $(if $(FUZZER),$(patsubst test/fuzz/%.c,build/test/test_fuzz_%,$(wildcard test/fuzz/*.c)) build/test/test_fuzz_trainer)
TEST_PROGRAMS := $(patsubst test/%.c,build/test/%,$(wildcard test/test_*.c)) \
    $(patsubst test/%.cpp,build/test/%,$(wildcard test/test_*.cpp)) $(CPU_PROGRAMS) $(EMU_PROGRAMS) $(CHECK_PROGRAMS) \
    $(SANITIZE_PROGRAMS) $(FUZZ_PROGRAMS)
tests: $(TEST_PROGRAMS) build/test/train_emu
# The whole trainer with its CUDA variants in the emulation: `--device cuda` is the emulated card. Where CUDA variants are built,
# cpu_fp32.o asks for them already.
build/emu_%.o: train_gpt2.cu $(EMU_STAMP)
	$(call run,EMU,$(CXX) $(EMU_FLAGS) -DPRECISION=$(CODE_$*) -DVARIANT=cuda_$* $(DEPENDENCIES) -x c++ -c $< -o $@)
build/emu_main.o: train_gpt2.cu $(CPU_STAMP)
	$(call run,CXX,$(CXX) $(CPU_FLAGS) -DPRECISION=0 -DVARIANT=cpu_fp32 -DAHEAD_MAIN -DAHEAD_WITH_CUDA=1 $(DEPENDENCIES) -x c++ -c $< -o $@)
build/test/train_emu: $(PRECISIONS:%=build/emu_%.o) $(if $(HAVE_CUDA),build/cpu_fp32.o,build/emu_main.o) build/cpu_bf16.o \
    build/cpu_fp16.o
	$(call run,LINK,$(CXX) -fopenmp $^ -o $@ -lpthread -lm $(LDFLAGS))
list-tests:
	@echo $(TEST_PROGRAMS)
define test_of_precision
build/test/%_$1: test/%.cu $(CPU_STAMP)
	$$(call run,CXX,$(CXX) $(CPU_FLAGS) -DPRECISION=$(CODE_$1) $$(DEPENDENCIES) -x c++ $$< -o $$@ $(LDFLAGS) -lcmocka -lpthread -lm)
build/test/%_emu_$1: test/%.cu $(EMU_STAMP)
	$$(call run,EMU,$(CXX) $(EMU_FLAGS) -DPRECISION=$(CODE_$1) $$(DEPENDENCIES) -x c++ $$< -o $$@ $(LDFLAGS) -lcmocka -lpthread -lm)
build/test/%_check_$1: test/%.cu $(CHECK_STAMP)
	$$(call check,$(CODE_$1))
build/test/%_asan_$1: test/%.cu $(SANITIZE_STAMP)
	$$(call sanitize,$(CODE_$1))
endef
define sanitize
$(call run,ASAN,$(CHECK_CXX) $(SANITIZE_FLAGS) -DPRECISION=$1 $(DEPENDENCIES) -x c++ $< -o $@ $(LDFLAGS) -lcmocka -lpthread -lm)
endef
define check
$(call run,CHECK,{ $(CHECK_CXX) $(CHECK_FLAGS) -DPRECISION=$1 $(DEPENDENCIES) -x c++ -c $< -o $@.o && \
	    $(CXX) $@.o -o $@ $(LDFLAGS) -lcmocka -lpthread -lm && rm $@.o; })
endef
$(foreach p,$(PRECISIONS),$(eval $(call test_of_precision,$p)))
build/test/test_check: test/emu/test_check.cu $(CHECK_STAMP)
	$(call check,$(CODE_bf16))
build/test/test_budget: test/budget/test_budget.cu $(BUDGET_STAMP)
	$(call run,COUNT,{ $(CHECK_CXX) $(BUDGET_FLAGS) -DPRECISION=$(CODE_bf16) -DVARIANT=cuda_bf16 $(DEPENDENCIES) -x c++ -c $< -o $@.o && \
	    $(CXX) $@.o -o $@ $(LDFLAGS) -lcmocka -lpthread -lm && rm $@.o; })
build/test/test_sanitize: test/emu/test_sanitize.cu $(SANITIZE_STAMP)
	$(call sanitize,$(CODE_bf16))
build/test/test_emulation_asan: test/emu/test_emulation.cu $(SANITIZE_STAMP)
	$(call sanitize,$(CODE_bf16))
build/test/test_emulation: test/emu/test_emulation.cu $(EMU_STAMP)
	$(call run,EMU,$(CXX) $(EMU_FLAGS) -DPRECISION=$(CODE_bf16) $(DEPENDENCIES) -x c++ $< -o $@ $(LDFLAGS) -lcmocka -lpthread -lm)
build/test/test_fuzz_%: test/fuzz/%.c $(FUZZ_STAMP)
	$(call run,FUZZ,$(CHECK_CC) -std=gnu11 $(FUZZ_FLAGS) $(DEPENDENCIES) $< -o $@ -lpthread -lm)
build/test/test_fuzz_%: test/fuzz/%.cu $(FUZZ_STAMP)
	$(call run,FUZZ,$(CHECK_CXX) -std=c++17 $(FUZZ_FLAGS) -DPRECISION=$(CODE_fp32) $(DEPENDENCIES) -x c++ $< -o $@ -lpthread -lm)
build/test/%: test/%.cpp $(CPU_STAMP)
	$(call run,CXX,$(CXX) $(CPU_FLAGS) $(DEPENDENCIES) $< -o $@ $(LDFLAGS) -lcmocka -lpthread -lm)
build/test/%: test/%.c $(call stamp,c,$(CC) $(C_FLAGS))
	$(call run,CC,$(CC) $(C_FLAGS) -fopenmp $(DEPENDENCIES) $< -o $@ $(LDFLAGS) -lcmocka -lpthread -lm)

# The same programs by nvcc, for a real GPU; attention and what stands on it also with cuDNN
CUDNN_TESTS := attention products model
GPU_PROGRAMS := $(if $(HAVE_CUDA),$(foreach p,$(PRECISIONS),$(EMU_TESTS:%=build/test/test_%_gpu_$p)) \
    $(if $(HAVE_CUDNN),$(foreach p,bf16 fp16,$(CUDNN_TESTS:%=build/test/test_%_cudnn_$p))))
GPU_STAMP := $(call stamp,gpu,$(NVCC) $(CUDA_FLAGS))
define gpu_test_of_precision
build/test/%_gpu_$1: test/%.cu $(GPU_STAMP)
	$$(call gpu_test,$$(filter-out -DAHEAD_CUDNN=1,$$(CUDA_FLAGS)) -DPRECISION=$(CODE_$1))
build/test/%_cudnn_$1: test/%.cu build/attention_cudnn.o $(GPU_STAMP)
	$$(call gpu_test,$$(CUDA_FLAGS) -DPRECISION=$(CODE_$1),build/attention_cudnn.o)
endef
define gpu_test
$(call run,NVCC,{ $(NVCC) $1 $(DEPENDENCIES) -c $< -o $@.o && $(CXX) -fopenmp $@.o $2 -o $@ $(LDFLAGS) -lcmocka $(LIBS) && rm $@.o; })
endef
$(foreach p,$(PRECISIONS),$(eval $(call gpu_test_of_precision,$p)))
test-gpu-build: $(GPU_PROGRAMS)
	@$(if $(HAVE_CUDA),,echo "error: the tests need nvcc and cuBLASLt to be compiled for a GPU; \`make found\` says what is here" >&2; exit 1)
list-gpu-tests:
	@echo $(GPU_PROGRAMS)

BENCHES := $(patsubst dev/bench/bench_%.cu,build/bench/%,$(wildcard dev/bench/bench_$(or $(BENCH),*).cu))
benches: $(BENCHES)
build/bench/%: dev/bench/bench_%.cu $(CPU_STAMP)
	$(call run,CXX,$(CXX) $(CPU_FLAGS) $(DEPENDENCIES) -x c++ $< -o $@ $(LDFLAGS) -lpthread -lm)
budget: $(if $(CHECK_CXX),build/test/test_budget)
	@$(if $(CHECK_CXX),build/test/test_budget --table,echo "error: make budget needs clang++: apt-get install clang" >&2; exit 1)
bench: benches
	@set -e; for b in $(BENCHES); do $$b; done
build/bench/gpu_ops: dev/bench/gpu_ops.cu $(if $(HAVE_CUDNN),build/attention_cudnn.o) $(GPU_STAMP)
	$(call run,NVCC,{ $(NVCC) $(CUDA_FLAGS) -DPRECISION=$(CODE_bf16) $(DEPENDENCIES) -c $< -o $@.o && \
	    $(CXX) -fopenmp $@.o $(if $(HAVE_CUDNN),build/attention_cudnn.o) -o $@ $(LDFLAGS) $(LIBS) && rm $@.o; })
bench-gpu: $(if $(HAVE_CUDA),build/bench/gpu_ops)
	@nvidia-smi -L 2>/dev/null | grep -q '^GPU ' || { echo "error: no NVIDIA GPU answers here (nvidia-smi -L names none)" >&2; exit 1; }
	@$(if $(HAVE_CUDA),build/bench/gpu_ops,echo "error: make bench-gpu needs nvcc and cuBLASLt; \`make found\` says what is here" >&2; exit 1)

quickstart:
	@scripts/quickstart.sh
test:
	@$(if $(and $(HAVE_CXX),$(HAVE_CMOCKA)),,scripts/setup.sh && )MAKE="$(MAKE)" test/run.sh $(TESTS)
test-long:
	@MAKE="$(MAKE)" test/run.sh --long $(LONG)
fuzzers: $(FUZZ_PROGRAMS)
fuzz: fuzzers
	@test/fuzz/run.sh $(FUZZ)
test-gpu:
	@MAKE="$(MAKE)" test/run.sh --gpu $(TESTS)
# cuDNN builds plans from a description of a GPU, once it finds a driver: build/plans/libcuda.so.1 stands in for that.
build/plans/libcuda.so.1: test/plans/fake_libcuda.c $(call stamp,c,$(CC) $(C_FLAGS))
	$(call run,CC,$(CC) $(C_FLAGS) -shared -fPIC -Wl$(comma)-soname$(comma)libcuda.so.1 $(DEPENDENCIES) $< -o $@)
build/plans/plans: test/plans/plans.c build/attention_cudnn.o $(call stamp,c,$(CC) $(C_FLAGS))
	$(call run,CC,{ $(CC) $(C_FLAGS) $(DEPENDENCIES) -c $< -o $@.o && $(CXX) $@.o build/attention_cudnn.o -o $@ $(LIBS) $(LDFLAGS); })
plans: $(if $(HAVE_CUDNN),build/plans/plans build/plans/libcuda.so.1)
	@test/plans/plans.sh $(PLANS)
sass: $(CUDA_VARIANTS:%=build/%.o)
	@$(if $(HAVE_CUDA),python3 dev/sass.py $^,echo "skipped: machine code of the CUDA kernels: none are built here"; echo "0 passed, 0 failed, 1 skipped")
mutants:
	@MAKE="$(MAKE)" test/mutants.sh $(MUTANTS)
lint:
	@scripts/lint.sh
format:
	@scripts/lint.sh --format
setup:
	@scripts/setup.sh
found:
	@rm -f build/found.mk && $(MAKE) -s build/found.mk
clean:
	rm -rf train_gpt2cu $(TOOLS)
	@test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name venv -exec rm -rf {} +
help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

-include $(wildcard build/*.d)
