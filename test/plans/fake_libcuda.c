/*
A libcuda.so.1 for a machine without a GPU: just enough driver for cuDNN to make plans.

cuDNN finds the driver by dlopen and looks its functions up by name. While it makes a plan it compiles the kernel and loads the
result as a module, to learn whether that works; it never launches one. So here a load succeeds and hands out an address that is
not used, a property of a kernel may be set, and everything that would need a device is refused (CUDA_ERROR_STUB_LIBRARY, 34).
The names are those that cuDNN 9 looks up; it says on its error stream which one it misses, if a later one wants more.
*/
#include <stddef.h>

enum { SUCCESS = 0, STUB_LIBRARY = 34, DRIVER_VERSION = 13000 };

// Functions whose first parameter is where to put a handle
#define LOADS(name)              \
    int name(void** handle) {    \
        *handle = (void*)0x1000; \
        return SUCCESS;          \
    }
#define ACCEPTS(name) \
    int name(void) { return SUCCESS; }
#define REFUSES(name) \
    int name(void) { return STUB_LIBRARY; }

int cuDriverGetVersion(int* version) {
    *version = DRIVER_VERSION;
    return SUCCESS;
}
int cuGetErrorName(int error, const char** text) {
    (void)error;
    *text = "no device";
    return SUCCESS;
}
int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }

LOADS(cuLibraryLoadData)
LOADS(cuLibraryGetKernel)
LOADS(cuModuleLoadData)
LOADS(cuModuleLoadDataEx)
LOADS(cuModuleGetFunction)
LOADS(cuKernelGetFunction)

ACCEPTS(cuLibraryUnload)
ACCEPTS(cuModuleUnload)
ACCEPTS(cuKernelSetAttribute)
ACCEPTS(cuKernelGetAttribute)
ACCEPTS(cuFuncSetAttribute)
ACCEPTS(cuFuncGetAttribute)

REFUSES(cuInit)
REFUSES(cuDeviceGet)
REFUSES(cuDeviceGetCount)
REFUSES(cuDeviceGetAttribute)
REFUSES(cuDevicePrimaryCtxRetain)
REFUSES(cuDevicePrimaryCtxRelease)
REFUSES(cuDevicePrimaryCtxReset)
REFUSES(cuCtxGetCurrent)
REFUSES(cuCtxGetDevice)
REFUSES(cuCtxGetLimit)
REFUSES(cuCtxPushCurrent)
REFUSES(cuCtxPopCurrent)
REFUSES(cuLaunchKernel)
REFUSES(cuLaunchKernelEx)
REFUSES(cuLaunchCooperativeKernel)
REFUSES(cuLibraryLoadFromFile)
REFUSES(cuLinkCreate)
REFUSES(cuLinkAddData)
REFUSES(cuLinkComplete)
REFUSES(cuLinkDestroy)
REFUSES(cuLinkCreate_v2)
REFUSES(cuLinkAddData_v2)
REFUSES(cuLinkAddFile_v2)
REFUSES(cuModuleLoadFatBinary)
REFUSES(cuModuleGetGlobal_v2)
REFUSES(cuMemcpyDtoH_v2)
REFUSES(cuOccupancyMaxActiveBlocksPerMultiprocessor)
REFUSES(cuOccupancyMaxPotentialClusterSize)
REFUSES(cuStreamGetCtx)
REFUSES(cuStreamSynchronize)
REFUSES(cuTensorMapEncodeTiled)
