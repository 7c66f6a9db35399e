// GNUstep's headers ask for the block runtime under this name.
#pragma once

#include <Block.h>
