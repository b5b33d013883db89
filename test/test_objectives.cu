/*
The tests of the objectives' parts, one program instead of nine: each of them compiles the whole model, which is most of the time
that `make test` takes. Each file is a program of its own as well (make build/test/test_heads_fp32); here it is in a namespace, so
that what two of them call by one name stays apart.
*/
#include "buffer.h"
#include "child.h"
#include "gold.h"

#include "llmc/io/checkpoint.h"
#include "llmc/model/setup.cuh"
#include "llmc/model/vocabulary.h"
#include "tiny_light.h"
#include "light_double.h"
#include "tiny_objective.h"

namespace test_consistency {
#include "test_consistency.cu"
}
#undef TEST
#undef OPTIONS
namespace test_filter {
#include "test_filter.cu"
}
#undef TEST
#undef OPTIONS
#ifndef EMU_CHECK  // whole models: their kernels are in the others
namespace test_heads {
#include "test_heads.cu"
}
#undef TEST
#undef OPTIONS
#endif
namespace test_light_decoders {
#include "test_light_decoders.cu"
}
#undef TEST
#undef OPTIONS
namespace test_light_mass {
#include "test_light_mass.cu"
}
#undef TEST
#undef OPTIONS
namespace test_lightrnn {
#include "test_lightrnn.cu"
}
#undef TEST
#undef OPTIONS
namespace test_smoothing {
#include "test_smoothing.cu"
}
#undef TEST
#undef OPTIONS
namespace test_spelling {
#include "test_spelling.cu"
}
#undef TEST
#undef OPTIONS
namespace test_table_embedding {
#include "test_table_embedding.cu"
}

int main(void) {
    int failed = test_consistency::main() + test_filter::main() + test_light_decoders::main() + test_light_mass::main() +
                 test_lightrnn::main() + test_smoothing::main() + test_spelling::main() + test_table_embedding::main();
#ifndef EMU_CHECK
    failed += test_heads::main();
#endif
    return failed > 0;
}
