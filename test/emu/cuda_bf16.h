// See emu.h.
#pragma once
#include "emu.h"
