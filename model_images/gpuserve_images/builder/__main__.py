"""In the pod: `python3 -m gpuserve_images.builder REFERENCE` builds what a context asks for."""

import sys

from gpuserve_images.builder.inside import main
from gpuserve_images.ending import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()
    sys.exit(main(sys.argv[1:]))
