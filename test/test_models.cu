/*
Tests that each need the whole model and little else, as one program: compiling it is most of their time (see test_objectives.cu).
Each file is a program of its own as well.
*/
#include "buffer.h"
#include "child.h"
#include "gold.h"

#include "llmc/model/choice_eval.cuh"
#include "llmc/model/generate.cuh"
#include "llmc/io/dataloader.h"
#include "llmc/model/score.cuh"
#include "llmc/model/setup.cuh"
#include "llmc/model/smoothing.cuh"
#include "tiny_objective.h"

namespace test_cache {
#include "test_cache.cu"
}
#undef TEST
#undef OPTIONS
namespace test_mtp {
#include "test_mtp.cu"
}
#undef TEST
#undef OPTIONS
namespace test_score {
#include "test_score.cu"
}
#undef TEST
#undef OPTIONS
#if !GPU_EXECUTION  // they read the device's memory
namespace test_choices {
#include "test_choices.cu"
}
#undef TEST
#undef OPTIONS
namespace test_generate {
#include "test_generate.cu"
}
#undef TEST
#undef OPTIONS
namespace test_lightrnn_gold {
#include "test_lightrnn_gold.cu"
}
#endif

int main(void) {
    int failed = test_cache::main() + test_mtp::main() + test_score::main();
#if !GPU_EXECUTION
    failed += test_choices::main() + test_generate::main() + test_lightrnn_gold::main();
#endif
    return failed > 0;
}
