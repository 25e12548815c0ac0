// Command simulated-gpus is a device plugin, in the protocol of NVIDIA's own, for GPUs that do not exist: what schedules
// pods, counts and hands out GPUs is real; what computes is not there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	gpuResource      = "nvidia.com/gpu"
	pluginSocketName = "gpuserve-simulated-gpus.sock"
	registerTimeout  = 5 * time.Second
	retryAfter       = time.Second
	// The kubelet removes every plugin's socket when it starts, and its own is a new file then: a look at both each
	// second finds that without a watch on a folder that may not exist yet.
	lookEvery = time.Second
)

// simulatedGPUs answers the kubelet's calls.
type simulatedGPUs struct {
	deviceplugin.UnimplementedDevicePluginServer
	devices []*deviceplugin.Device
	stopped <-chan struct{}
}

func main() {
	count := flag.Int("count", 8, "how many GPUs to offer")
	folder := flag.String("device-plugin-dir", "/var/lib/kubelet/device-plugins", "the kubelet's folder of device plugin sockets")
	flag.Parse()
	if *count < 1 || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "simulated-gpus: --count must be 1 or more (is %d) and no other arguments given (%q)\n", *count, flag.Args())
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	servePlugin(ctx, *folder, *count)
}

// servePlugin keeps the devices registered until ctx ends, whatever the kubelet does.
func servePlugin(ctx context.Context, folder string, count int) {
	for ctx.Err() == nil {
		if err := serveOneKubelet(ctx, folder, count); err != nil {
			log.Printf("%v; trying again", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// serveOneKubelet serves and registers the devices, and returns once the kubelet that it registered with is gone.
func serveOneKubelet(ctx context.Context, folder string, count int) error {
	kubeletSocket := filepath.Join(folder, filepath.Base(deviceplugin.KubeletSocket))
	kubelet, err := os.Stat(kubeletSocket)
	if err != nil {
		return fmt.Errorf("no kubelet yet: %w", err)
	}
	socket := filepath.Join(folder, pluginSocketName)
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot replace the plugin's socket: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("cannot listen on the plugin's socket: %w", err)
	}
	stopped := make(chan struct{})
	server := grpc.NewServer()
	deviceplugin.RegisterDevicePluginServer(server, &simulatedGPUs{devices: newDevices(count), stopped: stopped})
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	defer close(stopped)
	if err := register(ctx, kubeletSocket); err != nil {
		return fmt.Errorf("cannot register with the kubelet: %w", err)
	}
	log.Printf("offering %d simulated GPUs as %s", count, gpuResource)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
		now, err := os.Stat(kubeletSocket)
		if err != nil || !os.SameFile(kubelet, now) {
			return errors.New("the kubelet restarted")
		}
		if _, err := os.Stat(socket); err != nil {
			return errors.New("the kubelet removed the plugin's socket")
		}
	}
}

func register(ctx context.Context, kubeletSocket string) error {
	connection, err := grpc.NewClient("unix://"+kubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	_, err = deviceplugin.NewRegistrationClient(connection).Register(ctx, &deviceplugin.RegisterRequest{
		Version:      deviceplugin.Version,
		Endpoint:     pluginSocketName,
		ResourceName: gpuResource,
		Options:      &deviceplugin.DevicePluginOptions{},
	})
	return err
}

func newDevices(count int) []*deviceplugin.Device {
	devices := make([]*deviceplugin.Device, 0, count)
	for number := range count {
		devices = append(devices, &deviceplugin.Device{ID: fmt.Sprintf("GPU-sim-%d", number), Health: deviceplugin.Healthy})
	}
	return devices
}

func (g *simulatedGPUs) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{}, nil
}

func (g *simulatedGPUs) ListAndWatch(_ *deviceplugin.Empty, stream grpc.ServerStreamingServer[deviceplugin.ListAndWatchResponse]) error {
	if err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: g.devices}); err != nil {
		return err
	}
	select { // simulated devices never change their health
	case <-stream.Context().Done():
	case <-g.stopped:
	}
	return nil
}

func (g *simulatedGPUs) Allocate(_ context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	response := &deviceplugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &deviceplugin.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return response, nil
}
