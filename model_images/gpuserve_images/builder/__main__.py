"""In the pod: `python3 -m gpuserve_images.builder REFERENCE` builds what a context asks for."""

import sys

from gpuserve_images.builder.inside import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
